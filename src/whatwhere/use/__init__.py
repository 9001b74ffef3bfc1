"""Can a network use *where* better? Recalibrate features from their surrounding regions (Wang et al. 2018)."""

from whatwhere.recalibration.insert import RecalibrationReport, recalibrate
from whatwhere.recalibration.ms_sar import MSSAR, SE

__all__ = ["MSSAR", "SE", "RecalibrationReport", "recalibrate"]
