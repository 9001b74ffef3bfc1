"""Where absolute position in convolutional networks comes from: one protocol per question."""
