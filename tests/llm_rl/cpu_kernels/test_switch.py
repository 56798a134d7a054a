import pytest
import torch
import transformers as tf

from gridzero.llm_rl import cpu_kernels
from gridzero.llm_rl.decoding.generate import fast_decoder


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, cpu_kernels.PARTS), ("1", cpu_kernels.PARTS), ("0", ()), ("attention", ("attention",))],
)
def test_parts_can_be_switched_off(
    value: str | None, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cpu_kernels.VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(cpu_kernels.VARIABLE, value)
    assert tuple(part for part in cpu_kernels.PARTS if cpu_kernels.enabled(part)) == expected


@pytest.mark.parametrize("value", ["", "yes", "attention,", "2"])
def test_other_values_are_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cpu_kernels.VARIABLE, value)
    with pytest.raises(ValueError, match="GRIDZERO_CPU_KERNELS must be 1, 0 or some of decoding,"):
        cpu_kernels.enabled("attention")


def test_without_them_the_model_itself_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=9, **sizes))
    assert fast_decoder(model, 8, 4) is not None
    monkeypatch.setenv(cpu_kernels.VARIABLE, "0")
    assert fast_decoder(model, 8, 4) is None
