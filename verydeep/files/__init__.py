"""Files written whole or not at all, and read from folders that strangers may have filled."""
