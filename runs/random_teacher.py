"""Stand-ins for the gated files of runs/paper_s0.sh, with random weights, so that every step can be rehearsed.

    python runs/random_teacher.py -o FOLDER [--prompts 1000] [--pairs 6] [--seed 0]

Writes below FOLDER:

- ``sam3/``: a `Sam3Model` whose text tower (353.7 M parameters) and decoder have SAM3's sizes; its vision tower is cut
  to two small blocks and pictures of 224 pixels. Saved in bfloat16.
- ``mobileclip_s0.pt``: Apple's names and sizes (table of 77 rows), without an image tower.
- ``prompts.txt``: phrases of the bundled corpus.
- ``gold/``: pairs of the micro world under the names of SA-Co Gold's seven subsets, the same for all annotators.

What it rehearses is the way, not the result: a random teacher teaches nothing.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from litetext.checkpoints.writer import save_encoder
from litetext.encoders.config import EncoderConfig
from litetext.encoders.student import build_student
from litetext.evaluation.gold import SUBSETS
from litetext.micro.phrases import make_pairs
from litetext.micro.saco import ANNOTATIONS, write_saco
from litetext.micro.scenes import SceneOptions
from litetext.prompts.corpus import bundled_corpus
from litetext.storage import atomic_file, write_text

SIDE, PATCH = 224, 14
PATCHES = SIDE // PATCH
ROWS = 77  # of MobileCLIP's position table
VISION = {
    "model_type": "sam3_vision_model",
    "backbone_config": {
        "model_type": "sam3_vit_model",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
        "window_size": PATCHES // 2,
        "global_attn_indexes": [1],
        "pretrain_image_size": SIDE,
    },
    "backbone_feature_sizes": [[size * PATCHES] * 2 for size in (4, 2, 1)],
}
THEIRS = "detector.backbone.language_backbone.encoder."


def write_host(folder: Path, seed: int) -> int:
    """Write the SAM3 model; the parameters of its text side."""
    from transformers import Sam3Config, Sam3Model

    config = Sam3Config(vision_config=VISION)
    config.image_size = SIDE
    with torch.random.fork_rng(devices=[]):  # `transformers` draws from the global generator
        torch.default_generator.manual_seed(seed)
        model = Sam3Model(config).to(torch.bfloat16)
    with tempfile.TemporaryDirectory(dir=folder.parent) as half:  # a folder that is there is whole
        model.save_pretrained(Path(half) / "sam3")
        (Path(half) / "sam3").rename(folder)
    text = (model.text_encoder, model.text_projection)
    return sum(parameter.numel() for module in text for parameter in module.parameters())


def write_mobileclip(path: Path, seed: int) -> None:
    """Write what Apple's file holds of the text side: SAM3-LiteText's names below another root, and no projector."""
    config = EncoderConfig.of("s0", ROWS, padding="attended")
    student = build_student(config, torch.Generator().manual_seed(seed))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / "upstream.pt"
        save_encoder(config, student.state_dict().items(), whole, "upstream")
        found = torch.load(whole, weights_only=True)["model"]
    kept = {name.replace(THEIRS, "text_encoder."): one for name, one in found.items() if name.startswith(THEIRS)}
    kept["text_encoder.projection_layer"] = torch.zeros(config.width, config.width)
    with atomic_file(path) as file:
        torch.save(kept, file)


def write_gold(folder: Path, pairs: int, seed: int) -> None:
    """Write pairs of the micro world for each subset; three annotators who agree."""
    for number, (name, (_, stem)) in enumerate(SUBSETS.items()):
        write_saco(make_pairs(seed + number, pairs, SceneOptions()), folder / name)
        source = folder / name / ANNOTATIONS
        text = source.read_text(encoding="utf-8").replace('"images/', f'"{name}/images/')
        for annotator in "abc":
            write_text(folder / f"gold_{stem}_merged_{annotator}_release_test.json", text)
        source.unlink()


def write_prompts(path: Path, count: int, seed: int) -> None:
    """Write some phrases of the bundled corpus, one a line."""
    texts = bundled_corpus().texts
    rows = np.random.default_rng(seed).permutation(len(texts))[:count]
    write_text(path, "".join(f"{texts[row]}\n" for row in rows))


def main() -> None:
    """Write what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=6, help="of each subset, six of each picture")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    write_prompts(asked.output / "prompts.txt", asked.prompts, asked.seed)
    if not (asked.output / "mobileclip_s0.pt").exists():
        write_mobileclip(asked.output / "mobileclip_s0.pt", asked.seed)
    if not (asked.output / "gold").exists():
        write_gold(asked.output / "gold.half", asked.pairs, asked.seed)
        shutil.move(asked.output / "gold.half", asked.output / "gold")
    if not (asked.output / "sam3").exists():
        parameters = write_host(asked.output / "sam3", asked.seed)
        print(f"{asked.output / 'sam3'}: {parameters:,} parameters of text")


if __name__ == "__main__":
    main()
