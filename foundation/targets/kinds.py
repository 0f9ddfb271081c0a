"""The kinds of target by name."""

from foundation.targets.base import TargetKind
from foundation.targets.boxes import BoxesTarget
from foundation.targets.labels import LabelTarget, MultiLabelTarget
from foundation.targets.mask import MaskTarget

TARGETS: dict[str, TargetKind] = {
    kind.name: kind for kind in (LabelTarget(), MultiLabelTarget(), BoxesTarget(), MaskTarget())
}
"""The kinds by their name in `Spec.target`."""
