"""Pure data of the field, no input or output: tasks, analyses, reports, errors."""

from modelward.domain.analysis import *  # noqa: F403
from modelward.domain.analysis import __all__ as _analysis
from modelward.domain.errors import *  # noqa: F403
from modelward.domain.errors import __all__ as _errors
from modelward.domain.pairs import *  # noqa: F403
from modelward.domain.pairs import __all__ as _pairs
from modelward.domain.report import *  # noqa: F403
from modelward.domain.report import __all__ as _report
from modelward.domain.sandbox import *  # noqa: F403
from modelward.domain.sandbox import __all__ as _sandbox
from modelward.domain.taxonomy import *  # noqa: F403
from modelward.domain.taxonomy import __all__ as _taxonomy

__all__ = [*_analysis, *_errors, *_pairs, *_report, *_sandbox, *_taxonomy]  # noqa: PLE0604
