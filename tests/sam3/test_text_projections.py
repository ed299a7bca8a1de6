"""What is taken out of a host is what its own forward makes of the text: all of it, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from litetext.distillation.losses import KINDS, decoder_losses  # noqa: E402
from litetext.errors import EncoderError  # noqa: E402
from litetext.features.protocol import TextFeatures  # noqa: E402
from litetext.sam3.adapters import swap_text_encoder  # noqa: E402
from litetext.sam3.host import detector_of  # noqa: E402
from litetext.sam3.text_projections import TextProjections  # noqa: E402
from tests.auditing.fakes import FakeEncoder  # noqa: E402
from tests.sam3.hosts import WIDTH  # noqa: E402
from tests.sam3.runs import KINDS as HOSTS  # noqa: E402
from tests.sam3.runs import PHRASES, as_processor, fresh, run  # noqa: E402

pytestmark = pytest.mark.torch
LAYERS = ["encoder.0", "decoder.0", "decoder.1", "masks"]


def watch(model: Any) -> tuple[TextFeatures, dict[str, tuple[Any, Any]]]:
    """The text features of a run of the host, and input and output of each of its linear layers."""
    detector, seen = detector_of(model), {}
    hooks = [
        module.register_forward_hook(lambda _, args, out, name=name: seen.__setitem__(name, (args[0], out)))
        for name, module in detector.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    text = as_processor(PHRASES)
    run(model, **text)
    for hook in hooks:
        hook.remove()
    return TextFeatures(seen["text_projection"][1], text["attention_mask"].bool()), seen


def random_text(seed: int = 0, length: int = 7) -> TextFeatures:
    values = torch.randn(2, length, WIDTH, generator=torch.Generator().manual_seed(seed))
    return TextFeatures(values, torch.arange(length) < torch.tensor([[4], [6]]))


@pytest.mark.parametrize(("folder", "video"), HOSTS)
def test_keys_values_and_scores_are_those_of_the_host(folder: str, video: bool, request: Any) -> None:
    model = fresh(request.getfixturevalue(folder), video=video)
    features, seen = watch(model)
    read = TextProjections(model)(features, KINDS)
    # Whatever reads the text features themselves; the scoring's MLP is the one that gives no keys or values.
    text_readers_of_host = {name for name, (x, _) in seen.items() if x.shape == features.values.shape}
    text_readers_of_host = {name for name in text_readers_of_host if torch.equal(seen[name][0], features.values)}
    keys = [name for name in seen if name in text_readers_of_host and name.endswith("k_proj")]
    values = [name for name in seen if name in text_readers_of_host and name.endswith("v_proj")]
    assert text_readers_of_host - {*keys, *values} == {"dot_product_scoring.text_mlp.layer1"}
    assert list(read["keys"]) == list(read["values"]) == LAYERS
    assert len(keys) == len(values) == len(LAYERS)
    for ours, names in ((read["keys"], keys), (read["values"], values)):
        for name, theirs in zip(LAYERS, names, strict=True):
            valid = features.mask
            torch.testing.assert_close(ours[name][valid], seen[theirs][1][valid])
    torch.testing.assert_close(read["scoring"]["queries"], seen["dot_product_scoring.text_proj"][1])


def test_each_layer_has_its_own_weights(host: Any) -> None:
    read = TextProjections(host)(random_text(), KINDS)
    outputs = [*read["keys"].values(), *read["values"].values()]
    assert not any(torch.equal(a, b) for n, a in enumerate(outputs) for b in outputs[:n])


def test_padding_has_no_influence(host: Any) -> None:
    reader, features = TextProjections(host), random_text()
    for poison in (float("nan"), float("inf"), 1e30):
        values = features.values.masked_fill(~features.mask[:, :, None], poison).requires_grad_()
        read, expected = reader(TextFeatures(values, features.mask), KINDS), reader(features, KINDS)
        for kind in KINDS:
            for name, output in read[kind].items():
                valid = (slice(None),) if kind == "scoring" else features.mask
                torch.testing.assert_close(output[valid], expected[kind][name][valid])
        losses = decoder_losses(reader, TextFeatures(values, features.mask), random_text(seed=1, length=9))
        (found,) = torch.autograd.grad(sum(losses.values()), values)
        assert found.isfinite().all()
        assert found[features.mask].abs().sum() > 0
        assert not found[~features.mask].any()


def test_a_student_that_equals_its_teacher_costs_nothing(host: Any) -> None:
    reader, features = TextProjections(host), random_text()
    longer = TextFeatures(
        torch.nn.functional.pad(features.values, (0, 0, 0, 3), value=torch.nan),
        torch.nn.functional.pad(features.mask, (0, 3)),
    )
    losses = decoder_losses(reader, features, longer)
    assert losses.keys() == set(KINDS)
    assert all(loss.item() == pytest.approx(0, abs=1e-12) for loss in losses.values())
    assert all(loss > 0.01 for loss in decoder_losses(reader, features, random_text(seed=1)).values())


def test_the_layers_are_frozen_copies_in_float32_without_dropout(host: Any) -> None:
    model = host.half()
    reader = TextProjections(model)
    assert {parameter.dtype for parameter in reader.parameters()} == {torch.float32}
    features = random_text()
    before = reader(features, KINDS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    values = features.values.clone().requires_grad_()
    after = reader.train()(TextFeatures(values, features.mask), KINDS)
    for kind in KINDS:
        for name, output in before[kind].items():
            assert torch.equal(output, after[kind][name])
    after["scoring"]["queries"].sum().backward()
    assert values.grad is not None
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in reader.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_only_what_is_asked_for_is_computed(host: Any) -> None:
    reader = TextProjections(host)
    reader.mlp = reader.value_layers = None
    read = reader(random_text(), ["keys"])
    assert {kind: list(layers) for kind, layers in read.items()} == {"keys": LAYERS}


def test_a_swapped_host_reads_alike(host: Any, fake: FakeEncoder) -> None:
    before = TextProjections(host)(random_text(), KINDS)
    swap_text_encoder(host, fake)
    after = TextProjections(host)(random_text(), KINDS)
    assert torch.equal(before["scoring"]["queries"], after["scoring"]["queries"])


def test_features_of_another_width_are_refused(host: Any) -> None:
    narrow = TextFeatures(torch.zeros(1, 2, WIDTH // 2), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(EncoderError, match=f"features of width {WIDTH // 2} where the host reads {WIDTH}"):
        TextProjections(host)(narrow, KINDS)


def test_only_a_host_has_readers(host_folder: Path) -> None:
    tower = fresh(host_folder).text_encoder
    with pytest.raises(EncoderError, match="is not a SAM3 host"):
        TextProjections(tower)
