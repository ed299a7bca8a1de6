"""The public names and where they are: `__init__.py` reads this table, and so do type checkers."""

from litetext._face import Segmenter as Segmenter
from litetext._face import SegmentRuntime as SegmentRuntime
from litetext._face import TextEncoder as TextEncoder
from litetext._face import audit as audit
from litetext._face import compare as compare
from litetext._face import distill as distill
from litetext._face import embed as embed
from litetext.auditing.run import AuditReport as AuditReport
from litetext.errors import LiteTextError as LiteTextError
from litetext.evaluation.gold import evaluate as evaluate
from litetext.export.compress import Student as Student
from litetext.export.runtime import TextRuntime as TextRuntime
from litetext.features.bank import PromptBank as PromptBank
from litetext.features.bank import make_bank as make_bank
from litetext.features.compare import Fidelity as Fidelity
from litetext.features.protocol import TextFeatures as TextFeatures
from litetext.features.store import FeatureStore as FeatureStore
from litetext.prompts.corpus import Prompt as Prompt
from litetext.prompts.corpus import PromptCorpus as PromptCorpus
from litetext.prompts.corpus import bundled_corpus as bundled_corpus
from litetext.prompts.readers import read_prompts as read_prompts
from litetext.sam3.adapters import swap_text_encoder as swap_text_encoder
from litetext.sam3.host import load_host as load_host
from litetext.sam3.masks import ImageMasks as ImageMasks
from litetext.sam3.masks import Masks as Masks
from litetext.sam3.segmenter import Exemplars as Exemplars
from litetext.sam3.segmenter import SegmentOptions as SegmentOptions
from litetext.tokenizer.bpe import ClipTokenizer as ClipTokenizer
from litetext.tokenizer.bpe import TokenBatch as TokenBatch
from litetext.tokenizer.bpe import clip_tokenizer as clip_tokenizer
from litetext.video.frames import open_clip as open_clip
from litetext.video.methods import Tracking as Tracking
from litetext.video.overlay import VideoWriter as VideoWriter
from litetext.video.overlay import draw_tracked as draw_tracked
from litetext.video.tracking import TrackedFrame as TrackedFrame

__version__: str
