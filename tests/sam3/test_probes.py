"""What the probes read is what the host computed: its attentions' outputs follow from it."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from litetext.errors import EncoderError  # noqa: E402
from litetext.sam3.host import detector_of, load_host  # noqa: E402
from litetext.sam3.probes import AttentionReading, attention_logits, probed, text_attentions  # noqa: E402
from tests.sam3.runs import KINDS, PHRASES, as_processor, assert_equal, exact, run  # noqa: E402

pytestmark = pytest.mark.torch
LAYERS = ["encoder.0", "decoder.0", "decoder.1", "masks"]
LENGTHS = [4, 9, 3]  # tokens of the phrases, start and end counted


def read(model: Any) -> tuple[list[AttentionReading], Any]:
    text, readings = as_processor(PHRASES), []
    with probed(model, text["attention_mask"].bool(), readings.append):
        output = run(model, **text)
    return readings, output


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize(("folder", "video"), KINDS)
def test_the_output_follows_from_what_was_read(folder: str, video: bool, kernel: str, request: Any) -> None:
    model = load_host(str(request.getfixturevalue(folder)), device="cpu", video=video)
    model.set_attn_implementation(kernel)
    attentions = {place.layer: place.attention for place in text_attentions(model)}
    values: dict[str, Any] = {}
    hooks = [
        attention.v_proj.register_forward_hook(lambda _, __, out, name=name: values.__setitem__(name, out))
        for name, attention in attentions.items()
    ]
    readings, _ = read(model)
    for hook in hooks:
        hook.remove()
    assert [reading.layer for reading in readings] == LAYERS
    for reading in readings:
        attention = attentions[reading.layer]
        heads = values[reading.layer].unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
        output = attention.o_proj((reading.weights @ heads).transpose(1, 2).flatten(2))
        torch.testing.assert_close(reading.output, output, atol=1e-5, rtol=1e-4)
        assert reading.output.abs().max() > 0.1


def test_weights_are_those_that_the_plain_kernel_returns(host: Any) -> None:
    host.set_attn_implementation("eager")
    returned: dict[str, Any] = {}
    for place in text_attentions(host):
        place.attention.register_forward_hook(lambda _, __, out, name=place.layer: returned.__setitem__(name, out[1]))
    readings, _ = read(host)
    for reading in readings:
        torch.testing.assert_close(reading.weights, returned[reading.layer])
        for row, length in enumerate(LENGTHS):
            assert not reading.weights[row, ..., length:].any()
            torch.testing.assert_close(reading.weights[row].sum(-1), torch.ones(reading.weights.shape[1:3]))


def test_the_layers_outputs_are_those_of_the_layers(host: Any) -> None:
    layers = {
        "encoder.0": host.detr_encoder.layers[0],
        "decoder.0": host.detr_decoder.layers[0],
        "decoder.1": host.detr_decoder.layers[1],
        "masks": host.mask_decoder.pixel_decoder,
    }
    seen: dict[str, Any] = {}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out))
    readings, _ = read(host)
    assert all(torch.equal(reading.layer_output, seen[reading.layer]) for reading in readings)


def test_a_probe_changes_nothing_and_leaves_nothing_behind(host_folder: Path) -> None:
    model = exact(host_folder)
    before = run(model, **as_processor(PHRASES))
    _, during = read(model)
    assert_equal(during, before, atol=0)
    with pytest.raises(KeyError), probed(model, torch.ones(3, 32, dtype=torch.bool), print):
        raise KeyError
    hooks = [module for module in detector_of(model).modules() if module._forward_hooks]
    assert hooks == []


def test_logits_by_hand() -> None:
    """Two heads of one channel: each query times each key, times the scale."""
    attention = torch.nn.Module()
    attention.q_proj = attention.k_proj = torch.nn.Identity()
    attention.num_attention_heads, attention.head_dim, attention.scaling = 2, 1, 0.5
    query = torch.tensor([[[1.0, 2.0]]])
    key = torch.tensor([[[3.0, 5.0], [7.0, 11.0]]])
    assert attention_logits(attention, query, key).tolist() == [[[[1.5, 3.5]], [[5.0, 11.0]]]]


def test_logits_of_a_host_in_half_precision_are_float32(host: Any) -> None:
    text = as_processor(PHRASES)
    readings: list[AttentionReading] = []
    model = host.bfloat16()
    with probed(model, text["attention_mask"].bool(), readings.append):
        run(model, **text)
    assert {reading.logits.dtype for reading in readings} == {torch.float32}
    assert {reading.output.dtype for reading in readings} == {torch.bfloat16}


def test_only_a_host_has_them(host: Any) -> None:
    with pytest.raises(EncoderError, match="is not a SAM3 host"):
        text_attentions(host.text_encoder)
