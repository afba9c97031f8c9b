"""Old names."""

from registry import Renamed

LITTLE = Renamed("tiny", since="0.2")
CIRCULAR = Renamed("circular")
