"""Where is it? Boxes of the paper's nets (appendix A). The door: what other rooms use."""
