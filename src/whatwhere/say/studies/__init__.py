"""The lab of Say: losslessness, inspectability, confidence, failures, interventions and leakage of a bottleneck."""
