"""Label maps: what a segmentation data set says of each pixel."""

IGNORE = 255  # the value of a pixel that is not labelled
CLASS = "class"  # the label map that a segmentation network predicts
