from collections.abc import Iterator

import pytest

from gridzero.llm_rl import cpu_kernels


@pytest.fixture(scope="module", params=["1", "0"], ids=["compiled", "not compiled"])
def with_and_without_kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of a module with the compiled loops and without; for a module, as Hypothesis wants it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cpu_kernels.VARIABLE, request.param)
        yield
