import subprocess
import sys

import pytest
from pydantic import ValidationError

from thinkling.train.config import OptimizerConfig


@pytest.mark.parametrize(
    "field", [{"lr": 0.0}, {"betas": (0.9, 1.0)}, {"clip_norm": 0.0}, {"name": "sgd"}, {"lrr": 1.0}]
)
def test_bad_fields_are_refused(field: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        OptimizerConfig.model_validate(field)


def test_configs_and_schedules_load_no_torch() -> None:
    code = (
        "import sys, thinkling.train.config, thinkling.train.schedule;"
        "print([m for m in ('torch', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
