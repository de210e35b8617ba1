"""The paper as data: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition".

arXiv 1409.1556v6, ICLR 2015. Nothing here is computed and nothing here is imported; numbers the paper
does not print are marked "computed".
"""

# Table 1, one net a row, one block a column; a 2x2 max-pool with stride 2 ends every block, and the
# layers FC-4096, FC-4096, FC-1000, soft-max end every net. "3-64 x2" is conv3-64 twice.
# shallow-B is the seventh net, of section 4.1: each pair of 3x3 layers of B replaced by one 5x5 layer.
TABLE_1: dict[str, tuple[str, str, str, str, str]] = {
    #             block 1     block 2      block 3           block 4           block 5
    "A":         ("3-64",     "3-128",     "3-256 x2",       "3-512 x2",       "3-512 x2"),
    "A-LRN":     ("3-64 LRN", "3-128",     "3-256 x2",       "3-512 x2",       "3-512 x2"),
    "B":         ("3-64 x2",  "3-128 x2",  "3-256 x2",       "3-512 x2",       "3-512 x2"),
    "C":         ("3-64 x2",  "3-128 x2",  "3-256 x2 1-256", "3-512 x2 1-512", "3-512 x2 1-512"),
    "D":         ("3-64 x2",  "3-128 x2",  "3-256 x3",       "3-512 x3",       "3-512 x3"),
    "E":         ("3-64 x2",  "3-128 x2",  "3-256 x4",       "3-512 x4",       "3-512 x4"),
    "shallow-B": ("5-64",     "5-128",     "5-256",          "5-512",          "5-512"),
}  # fmt: skip
ALSO_CALLED = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}  # by others, after the layers with weights

# Parameters with biases at 1,000 classes, and 10^9 multiply-adds at 224x224 (computed; the paper rounds
# the first to millions in Table 2 and does not print the second).
PARAMETERS = {
    "A": 132_863_336,
    "A-LRN": 132_863_336,
    "B": 133_047_848,
    "C": 133_638_952,
    "D": 138_357_544,
    "E": 143_667_240,
    "shallow-B": 134_503_528,
}
MULTIPLY_ADDS = {"A": 7.61, "A-LRN": 7.61, "B": 11.31, "C": 11.77, "D": 15.47, "E": 19.63, "shallow-B": 9.36}

# Section 2.1 and Krizhevsky 2012. Toolkits divide alpha by n, so the literal setting there is 5e-4.
LRN_SIZE, LRN_ALPHA, LRN_BETA, LRN_K = 5, 1e-4, 0.75, 2.0

# Section 3.1: rate and batch belong together when either is changed.
BATCH = 256
LEARNING_RATE = 1e-2

# Section 3.2: the nets halve the side five times, so a crop must be a multiple of this.
STRIDE = 32

# Table 3, single test scale: (net, train S, test Q, top-1 error %, top-5 error %), ILSVRC-2012 validation.
TABLE_3: tuple[tuple[str, str, int, float, float], ...] = (
    ("A", "256", 256, 29.6, 10.4),
    ("A-LRN", "256", 256, 29.7, 10.5),
    ("B", "256", 256, 28.7, 9.9),
    ("C", "256", 256, 28.1, 9.4),
    ("C", "384", 384, 28.1, 9.3),
    ("C", "[256;512]", 384, 27.3, 8.8),
    ("D", "256", 256, 27.0, 8.8),
    ("D", "384", 384, 26.8, 8.7),
    ("D", "[256;512]", 384, 25.6, 8.1),
    ("E", "256", 256, 27.3, 9.0),
    ("E", "384", 384, 26.9, 8.7),
    ("E", "[256;512]", 384, 25.5, 8.0),
)

# Table 4, several test scales: (net, train S, test Qs, top-1 error %, top-5 error %), ILSVRC-2012 validation, dense.
TABLE_4: tuple[tuple[str, str, tuple[int, int, int], float, float], ...] = (
    ("B", "256", (224, 256, 288), 28.2, 9.6),
    ("C", "256", (224, 256, 288), 27.7, 9.2),
    ("C", "384", (352, 384, 416), 27.8, 9.2),
    ("C", "[256;512]", (256, 384, 512), 26.3, 8.2),
    ("D", "256", (224, 256, 288), 26.6, 8.6),
    ("D", "384", (352, 384, 416), 26.5, 8.6),
    ("D", "[256;512]", (256, 384, 512), 24.8, 7.5),
    ("E", "256", (224, 256, 288), 26.9, 8.7),
    ("E", "384", (352, 384, 416), 26.7, 8.6),
    ("E", "[256;512]", (256, 384, 512), 24.8, 7.5),
)

# Table 5, jittered nets at Q = 256, 384, 512: (net, protocol, top-1 error %, top-5 error %), ILSVRC-2012 validation.
TABLE_5: tuple[tuple[str, str, float, float], ...] = (
    ("D", "dense", 24.8, 7.5),
    ("D", "crops", 24.6, 7.5),
    ("D", "both", 24.4, 7.2),
    ("E", "dense", 24.8, 7.5),
    ("E", "crops", 24.6, 7.4),
    ("E", "both", 24.4, 7.1),
)

# Table 6, posteriors of several nets averaged: (nets, protocol, top-1 val %, top-5 val %, top-5 test %).
TABLE_6: tuple[tuple[str, str, float, float, float | None], ...] = (
    ("7 nets", "dense", 24.7, 7.5, 7.3),
    ("D+E", "dense", 24.0, 7.1, 7.0),
    ("D+E", "crops", 23.9, 7.2, None),
    ("D+E", "both", 23.7, 6.8, 6.8),
)

# Appendix A, error in %: task, which layers are trained; S = 384, the class given, one crop.
TABLE_8: tuple[tuple[str, str, float], ...] = (
    ("SCR", "1st and 2nd FC", 36.4),
    ("PCR", "1st and 2nd FC", 34.3),
    ("PCR", "all", 33.1),
)
# S | Q, top-5 error of validation and test.
TABLE_9: tuple[tuple[str, str, float, float | None], ...] = (
    ("256", "256", 29.5, None),
    ("384", "384", 28.2, 26.7),
    ("384", "352, 384", 27.5, None),
    ("256 and 384", "256 and 352, 384", 26.9, 25.3),
)

# Appendix B: VOC-2007 and 2012 mAP, Caltech-101 and 256 mean class recall with its deviation over three splits, in %.
TABLE_11: dict[str, dict[str, str]] = {
    "VOC2007": {"D": "89.3", "E": "89.3", "D and E": "89.7"},
    "VOC2012": {"D": "89.0", "E": "89.0", "D and E": "89.3"},
    "Caltech-101": {"D": "91.8 +- 1.0", "E": "92.3 +- 0.5", "D and E": "92.7 +- 0.5"},
    "Caltech-256": {"D": "85.0 +- 0.2", "E": "85.1 +- 0.3", "D and E": "86.2 +- 0.3"},
}
# VOC-2012 actions, D and E, mAP in %.
TABLE_12 = {"photo": "79.2", "photo and person": "84.0"}
