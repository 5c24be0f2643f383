import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from thinkling.train.staging import HostCopy, in_background

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.uint8)


@st.composite
def states(draw: st.DrawFn) -> dict[str, Tensor]:
    """Tensors of any shape, also empty ones and views that are not contiguous."""
    state = {}
    for name in draw(st.lists(st.sampled_from("abcde"), unique=True)):
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        x = torch.randint(0, 100, shape, generator=generator).to(draw(st.sampled_from(DTYPES)))
        state[name] = x.mT if x.ndim >= 2 and draw(st.booleans()) else x
    return state


@given(st.lists(states(), min_size=1, max_size=4))
def test_a_copy_is_equal_and_stays_so(many: list[dict[str, Tensor]]) -> None:
    copies = HostCopy()
    for state in many:
        copy = copies.copy(state)
        before = {name: x.clone() for name, x in state.items()}
        for x in state.values():
            x.add_(1)
        assert copy.keys() == state.keys()
        for name, x in before.items():
            assert (copy[name].dtype, copy[name].is_contiguous()) == (x.dtype, True)
            assert torch.equal(copy[name], x)


def test_buffers_are_used_again() -> None:
    copies, state = HostCopy(), {"a": torch.ones(3), "b": torch.ones(2, 2, requires_grad=True)}
    first = {name: x.data_ptr() for name, x in copies.copy(state).items()}
    assert {name: x.data_ptr() for name, x in copies.copy(state).items()} == first
    state["a"] = torch.ones(4)
    assert copies.copy(state)["b"].data_ptr() == first["b"]
    copies.free()
    assert torch.equal(copies.copy(state)["a"], torch.ones(4))


def test_errors_of_a_thread_reach_the_caller() -> None:
    def fails() -> None:
        raise ValueError("in a thread")

    assert in_background(lambda: 3, torch.device("cpu")).result() == 3
    assert isinstance(in_background(fails, torch.device("cpu")).exception(), ValueError)
