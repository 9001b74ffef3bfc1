"""The lab: a protocol per question, from networks and pictures to a result."""
