"""Figures of SAM3-LiteText (arXiv 2602.12173) that reports are compared with."""

# By context length, over its 404,796 prompts; shares between 0 and 1.
PADDING = {8: 0.200, 16: 0.520, 32: 0.755}
TRUNCATED = {8: 0.285, 16: 0.050, 32: 0.001}
PROMPTS = 404_796
USED_TOKENS, COVERAGE, TOP_100 = 17_300, 0.35, 0.585
AMBIENT, EFFECTIVE_RANK = 256, 85
INTRINSIC_DIMENSION = (16, 19)  # TwoNN and MLE agree within this range
# cgF1 on SA-Co Gold, average of seven subsets, released weights at context 16.
GOLD_CGF1 = {"teacher": 54.1, "s0": 53.61, "s1": 53.80, "l": 53.95}
# By "the decoder's softmax attention"; by which definition is not known to us.
ATTENUATION = 282
