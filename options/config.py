"""Every setting with its default, as frozen dataclasses; argparse takes its defaults from here."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from options.network_sizes import MOST_PIXELS, require_moderate, resolutions
from util.errors import CheckpointError, OptionError
from util.json_files import read_json

FPS = 25  # of every video that is read or made
SAMPLE_RATE_HZ = 16000  # of every sound that the networks hear
LONGEST_S = 3 * 3600  # of a sound or video that is read: an hour's talk and some more
NETWORK_LETTERS = ("G", "V", "E", "A_sync", "A", "D")
INFERENCE_LETTERS = ("G", "V", "E", "A_sync")
# the columns of a result, from left to right: folders of frames `<name><n>.jpg`
INPUT, DRIVEN, FIXED, POSE, MOUTH = "Input_", "G_Pose_Driven_", "G_Fix_Pose_", "Pose_Source_", "Mouth_Source_"
COLUMNS = (INPUT, DRIVEN, FIXED, POSE, MOUTH)
GENERATED = (DRIVEN, FIXED)  # a result has one of them
NETWORK_FILE = "network.json"  # beside weights of other than the published sizes
TRAINED_ON = "trained_on.txt"  # beside weights that know some people only: whom
SYNTHETIC_PEOPLE = "synthetic people"  # what it says where those are drawn
STATE_FILE = "latest_state.pth"  # of a training: everything that --continue_train needs
LANDMARK_CHOICES = ("auto", "face_alignment", "dlib")
FACE_CHOICES = ("largest", "centre", "track")  # or a number
PERSON, PHOTO, OTHERS = 0, 1, 2  # labels of clips when a model is fitted to a person: with sound, still and silent
ANGLES = ("yaw", "pitch", "roll")  # of a head; signs as in data.synthetic.person.FaceState


@dataclass(frozen=True)
class AudioConfig:
    """Log-mel spectrogram and its place in time (docs/how_it_works.md section 2 and 3)."""

    sample_rate_hz: int = SAMPLE_RATE_HZ
    frame_length: int = 1280  # samples of one STFT frame
    hop_length: int = 160  # samples between STFT frames: 100 bins a second
    num_mel_bands: int = 80
    rms_target: float = 0.1
    min_level_db: float = -100.0
    reference_level_db: float = 20.0
    bins_per_frame: int = 4  # at 25 fps
    bins_per_window: int = 20  # 0.2 s of sound drive one frame
    window_offset_frames: int = 2  # frame i starts at bin 4 * (i - 2)


@dataclass(frozen=True)
class DataConfig:
    """How frames get from disk to tensors (docs/how_it_works.md section 4)."""

    template_size: int = 224  # pixels; what VoxCeleb2 crops measure
    crop_len: int = 16  # pixels cut left, right and (twice) below
    crop_size: int = 224  # pixels; what the networks see
    num_inputs: int = 1  # reference images averaged into one identity
    # training clips
    clip_len: int = 1  # frames of a clip
    num_clips: int = 1  # clips cut from one video at different times; further ones are extra negatives
    frame_interval: int = 1  # a clip takes every so many-th frame of its video
    generate_interval: int = 1  # of a clip's frames, every so many-th is generated
    augment: bool = True  # E sees augmented frames
    augment_shape: float = 1.0  # how strong their distortion is; 0: colours and blur alone
    augment_sound: float = 0.0  # how much voice, tone, level and noise of a clip's sound are changed; 0: not at all
    cache_gb: float = 0.0  # decoded videos kept in memory, per loading process

    def __post_init__(self) -> None:
        if 2 * self.crop_len >= self.template_size:
            raise OptionError(f"--crop_len must be less than {self.template_size // 2}, got {self.crop_len}")


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the six networks; the defaults are those of the published weights (docs/how_it_works.md section 1)."""

    crop_size: int = 224
    num_classes: int = 5830
    clip_len: int = 1
    feature_dim: int = 512  # of E and A_sync; the mouth code takes what the pose code leaves
    pose_dim: int = 12
    # G
    generator_channels: tuple[int, ...] | None = None  # per resolution, from the smallest; None: StyleGAN2's table
    generator_input_channels: int = 512  # of the identity map
    generator_size: int | None = None  # pixels of the generated image; None: crop_size
    mapping_layers: int = 8
    # V, ResNeXt
    identity_layers: tuple[int, ...] = (3, 4, 6, 3)
    identity_width: int = 64  # stem channels; the identity vector has 32 times as many
    identity_groups: int = 32
    identity_group_width: int = 4
    identity_size: int | None = None  # pixels V resizes frames to; None: crop_size
    identity_stem_pool: bool = True  # the max-pool behind the stem; without it V sees small frames twice as finely
    identity_skips: tuple[int, ...] = ()  # channels of V's finer stages that G adds at 14, 28 ... px; ours
    # E, hourglass
    hourglass_channels: int = 256
    hourglass_depth: int = 4
    pose_size: int | None = None  # pixels E resizes frames to; None: crop_size
    # A_sync and A, SE-ResNet
    audio_layers: tuple[int, ...] = (3, 4, 6, 3)
    audio_filters: tuple[int, ...] = (32, 64, 128, 256)
    n_mel_t: int = 4  # A sees this many mel windows stacked
    # D
    discriminator_width: int = 64
    num_discriminators: int = 2
    discriminator_face: bool = False  # one more, for eyes and mouth
    discriminator_crop: int | None = None  # pixels of the square somewhere that the first one sees; None: everything

    def __post_init__(self) -> None:
        for flag, size in (("--crop_size", self.crop_size), ("generator_size", self.image_size)):
            if len(resolutions(size)) < 3:
                raise OptionError(f"{flag} must be 7*2^k or 4*2^k with k >= 2, got {size}")
        for name, value in dataclasses.asdict(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if not isinstance(value, bool) and value is not None and min(numbers, default=1) < 1:
                raise OptionError(f"--{name} must be whole numbers above 0, got {value!r}")
        if not len(self.audio_layers) == len(self.audio_filters) == len(self.identity_layers) == 4:
            raise OptionError("audio_layers, audio_filters and identity_layers must have 4 entries each")
        levels = len(resolutions(self.image_size))
        if self.generator_channels is not None and len(self.generator_channels) != levels:
            count = len(self.generator_channels)
            raise OptionError(f"generator_channels must have {levels} entries for {self.image_size} px, got {count}")
        if self.generator_channels is None and self.image_size > MOST_PIXELS:
            raise OptionError(f"generator_channels must be given above {MOST_PIXELS} px, got {self.image_size} px")
        if len(self.identity_skips) > min(3, levels - 1):
            most = f"{min(3, levels - 1)} entries are the most for {self.image_size} px"
            raise OptionError(f"identity_skips has {len(self.identity_skips)}, {most}")
        if not 0 < self.pose_dim < self.feature_dim:
            raise OptionError(f"--pose_dim must lie between 1 and {self.feature_dim - 1}, got {self.pose_dim}")
        if self.hourglass_channels % 8:
            raise OptionError(f"hourglass_channels must be a multiple of 8, got {self.hourglass_channels}")
        pose_size = self.pose_size or self.crop_size
        if pose_size % 4 or pose_size // 4 < 2 ** min(self.hourglass_depth, 30):
            least = f"a multiple of 4, and 4*2^{self.hourglass_depth} (hourglass_depth) at least"
            raise OptionError(f"pose_size must be {least}, got {pose_size}")

    @property
    def image_size(self) -> int:
        return self.generator_size or self.crop_size

    @property
    def identity_dim(self) -> int:
        """Length of the identity vector: 2048 at the published size."""
        return 32 * self.identity_width

    @property
    def mouth_dim(self) -> int:
        """Length of the mouth code: 500 at the published size."""
        return self.feature_dim - self.pose_dim

    @property
    def style_dim(self) -> int:
        """Length of the style: identity vector, mouth code, pose code; 2560 at the published size."""
        return self.identity_dim + self.feature_dim

    @classmethod
    def of_checkpoint(cls, directory: Path, any_size: bool = False) -> NetworkConfig:
        """The sizes of the weights in a folder: its `network.json`, or the published sizes where there is none."""
        path = directory / NETWORK_FILE
        return cls.from_file(path, any_size) if path.is_file() else cls()

    @classmethod
    def from_file(cls, path: Path, any_size: bool = False) -> NetworkConfig:
        """Reads the `network.json` that lies beside checkpoints of other than the published sizes.

        any_size: take networks that are out of proportion to the published ones, too (--any_size).
        Raises CheckpointError: not JSON, a name or value that no network knows, or networks that are too large.
        """
        names = read_json(path, dict[str, Any], CheckpointError).keys()
        unknown = sorted(names - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise CheckpointError(f"{path}: unknown size {unknown[0]!r}; the names are the fields of NetworkConfig")
        try:
            config = read_json(path, cls, CheckpointError)
            if not any_size:
                require_moderate(config, cls())
        except OptionError as error:
            raise CheckpointError(f"{path}: {error}") from error
        return config


POSE_LOOPS = ("ping_pong", "cross_fade")


@dataclass(frozen=True)
class PoseOptions:
    """What is done to the pose codes of a clip; by default nothing. Raises OptionError for what cannot be honoured."""

    pose_scale: float = 1.0  # of the motion about the clip's mean
    pose_smooth: float = 0.0  # seconds, deviation of the Gaussian
    pose_offset: tuple[float, ...] = (0.0, 0.0, 0.0)  # degrees, in the order of ANGLES
    pose_hold: float | None = None  # seconds; the pose of this moment all the time
    pose_loop: str = "ping_pong"  # how a pose video goes on that is shorter than the sound

    def __post_init__(self) -> None:
        if self.pose_scale > 3:
            raise OptionError(f"--pose_scale must be from 0 (still) to 3, got {self.pose_scale}")
        if self.pose_smooth > 10:
            raise OptionError(f"--pose_smooth must be from 0 to 10 seconds, got {self.pose_smooth}")
        if not all(abs(angle) <= 45 for angle in self.pose_offset):
            raise OptionError(f"--pose_offset must stay within 45 degrees, got {self.pose_offset}")


BLINK_RATE = 17.0  # a minute, of people who talk


def blink_choice(text: str) -> float | tuple[float, ...] | None:
    """What `--blink` says: blinks a minute (0: none), their times in seconds, or None, those of the pose video.

    Raises OptionError for anything else.
    """
    words: dict[str, float | None] = {"none": 0.0, "auto": BLINK_RATE, "follow": None}
    if text in words:
        return words[text]
    try:
        numbers = tuple(float(number) for number in text.split(",") if number.strip())
    except ValueError:
        numbers = ()
    if not numbers:
        kinds = "none, auto, follow, blinks a minute such as 20, or times in seconds such as 0.8,3.5"
        raise OptionError(f"--blink {text!r} is unknown; choose from {kinds}")
    if "," in text and not all(0 <= number < float("inf") for number in numbers):
        raise OptionError(f"--blink {text}: times must be seconds from 0 on")
    if "," not in text and not 0 <= numbers[0] <= 60:
        raise OptionError(f"--blink {text}: must be from 0 to 60 a minute; a single time is written {text},")
    return numbers if "," in text else numbers[0]


SILENCE_CHOICES = ("free", "rest")


@dataclass(frozen=True)
class MouthOptions:
    """What is done to the mouth codes of a clip; by default nothing. Raises OptionError for what cannot be honoured."""

    mouth_scale: float = 1.0  # of how far the mouth is from the resting one
    silence: str = "free"  # the mouth where nobody speaks: as the sound makes it, or at rest

    def __post_init__(self) -> None:
        if self.mouth_scale > 3:
            raise OptionError(f"--mouth_scale must be from 0 (at rest) to 3, got {self.mouth_scale}")


@dataclass(frozen=True)
class TestConfig:
    """One run of test.py."""

    name: str = "demo"
    checkpoints_dir: Path = Path("checkpoints")
    which_epoch: str = "latest"
    meta_path_vox: Path = Path("misc/demo.csv")
    results_dir: Path = Path("results")
    gpu_ids: tuple[int, ...] = (0,)
    precision: str = "fp32"
    batch_size: int = 16
    num_threads: int = 4
    # what is generated
    driving_pose: bool = False
    published_timing: bool = False
    input_id_feature: bool = False
    use_audio_id: bool = False
    noise: str = "random"
    seed: int = 0
    blink: str = "none"  # see blink_choice
    load_codes: Path | None = None
    # which rows
    list_start: int = 0
    list_end: int | None = None
    how_many: int | None = None
    # what is written
    frame_format: str = "jpg"
    gen_video: bool = False
    labels: bool = False
    save_codes: bool = False
    resume: bool = False
    overwrite: bool = False
    verbose: bool = False
    # parts
    audio: AudioConfig = field(default_factory=AudioConfig)
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    pose: PoseOptions = field(default_factory=PoseOptions)
    mouth: MouthOptions = field(default_factory=MouthOptions)

    __test__ = False  # pytest collects classes called Test*

    def __post_init__(self) -> None:
        if blink_choice(self.blink) is None and not self.driving_pose:
            raise OptionError("--blink follow takes the blinks of the pose video; add --driving_pose")

    @property
    def blinks(self) -> bool:
        return blink_choice(self.blink) != 0

    @property
    def checkpoint_dir(self) -> Path:
        """The folder with the `<epoch>_net_<letter>.pth` files of this run."""
        return self.checkpoints_dir / self.name

    @property
    def letters(self) -> tuple[str, ...]:
        return (*INFERENCE_LETTERS, "A") if self.use_audio_id else INFERENCE_LETTERS


PASTE_MASKS = ("rounded", "square", "face")


@dataclass(frozen=True)
class PasteOptions:
    """How to paste. Raises OptionError for values that cannot be honoured."""

    mask: str = "rounded"
    feather: float = 0.15  # width of the soft edge in parts of the pasted square's side
    match_colours: bool = True
    max_size: int = 1920  # pixels of the longer side

    def __post_init__(self) -> None:
        if not 0 <= self.feather <= 0.5:
            raise OptionError(f"--feather must be from 0 to 0.5 of the pasted square's side, got {self.feather}")
        if self.max_size < 64:
            raise OptionError(f"--max_size must be at least 64 pixels, got {self.max_size}")


@dataclass(frozen=True)
class AlignOptions:
    """How faces are aligned to the template (scripts/align_68.py). Raises OptionError for what cannot be honoured."""

    landmarks: str = "auto"  # face_alignment when its weights are there or can be fetched, else dlib
    face: str = "track"  # largest, centre, track, or a number: the n-th from the left
    max_gap: int = 25  # frames without a face that are interpolated
    mode: str = "mean"  # mean (published), per_frame or smooth
    detect_every: int = 10  # frames between two searches for the face
    landmarks_file: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.face not in FACE_CHOICES and not self.face.isdecimal():
            choices = ", ".join((*FACE_CHOICES, "a number from 0 (the leftmost face)"))
            raise OptionError(f"--face {self.face!r} is unknown; choose from {choices}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise OptionError(f"--device must be auto, cpu, cuda or cuda:N, got {self.device}")


@dataclass(frozen=True)
class PrepareOptions:
    """How sources become inputs of test.py (scripts/prepare_testing_files.py)."""

    dir_path: Path = Path("misc")  # for everything that is made
    start_s: float = 0.0  # left out at the start of pose, audio and mouth sources
    duration_s: float | None = None  # kept behind that; None: all
    align: str = "off"  # off, auto (only what is not aligned yet) or all
    faces: AlignOptions = field(default_factory=AlignOptions)
    convert_spectrogram: bool = False
    seed: int = 0  # of the motion of a head that is drawn


@dataclass(frozen=True)
class LossConfig:
    """Weights and forms of the losses (docs/how_it_works.md section 6)."""

    gan_mode: str = "hinge"
    lambda_gan: float = 1.0
    lambda_feat: float = 10.0  # feature matching, which holds a pixel L1
    lambda_vgg: float = 10.0
    lambda_vggface: float = 0.0  # the published option is 5
    lambda_own: float = 0.0  # distance in the features of V and E as they are at the start; ours
    lambda_laplacian: float = 0.0  # L1 of the bands of a Laplacian pyramid; ours
    lambda_attributes: float = 0.0  # pose, mouth, blink and identity as a probe reads them; ours
    lambda_r1: float = 0.0  # gradient penalty of D; ours
    lambda_identity: float = 1.0
    lambda_contrastive: float = 100.0
    lambda_cross_modal: float = 0.0  # L1 between the modalities; the published option is 1
    lambda_confusion: float = 1e6  # only with --train_dis_pose
    lambda_readings: float = 0.0  # what a probe reads in the first numbers of features and pose code; ours
    lambda_standard: float = 0.0  # features of sound and mouth of mean 0 and deviation 1; ours
    lambda_independence: float = 0.0  # of the pose code's numbers from one another and from what is heard; ours
    contrastive_form: str = "inverse_distance"
    temperature: float = 0.07  # of the cosine form


@dataclass(frozen=True)
class OptimConfig:
    """Optimisers and schedule."""

    lr: float = 1e-3
    beta1: float | None = None  # None: 0 with two time scales, else 0.9
    beta2: float | None = None  # None: 0.9 with two time scales, else 0.999
    no_ttur: bool = False
    niter: int = 50  # epochs at the first rate
    niter_decay: int = 50  # epochs in which it falls to 0
    amsgrad: bool = True  # of the stage's own optimiser, where there is an adversary
    accumulate: int = 1  # batches whose gradients are summed up to one step
    clip_grad: float = 0.0  # largest gradient norm; 0: not clipped
    ema: float = 0.0  # decay of the moving average of G; 0: none
    warm_up: int = 0  # first steps, in which the rate rises from 0
    rates: tuple[tuple[str, float], ...] = ()  # (letter, factor of its rate) of networks that go at another pace
    late: tuple[tuple[str, int], ...] = ()  # (letter, step before which it stays as it is)


@dataclass(frozen=True)
class PersonalConfig:
    """How a model is fitted to one person (scripts/personalize.py).

    The other people of a batch keep it from forgetting. Shares are parts of a batch, of which one clip at least is the
    person's and one another's.
    """

    steps: int = 1000  # over which the share goes from the first to the last value
    first_share: float = 0.75  # of the batch that are other people, at the first step
    last_share: float = 0.25  # at the last one
    base_is_target: bool = False  # other people shall come out as the base makes them, not as they are
    lambda_pose: float = 1.0  # pose of the person under others' motion, as E saw it in the base's frame
    lambda_mouth: float = 1.0  # mouth of the person under others' sound, likewise
    lambda_likeness: float = 1.0  # of those frames to the person, as the base's V sees it
    lambda_lips: float = 0.0  # frames that have a truth, around the mouth, beside what they cost as a whole
    patience: int | None = None  # looks at the watched part without a better score, after which it stops


# stage -> the flag that chooses it
STAGES = {
    "recognition": "--train_recognition",
    "sync": "--train_sync",
    "joint": "(none)",
    "dis_pose": "--train_dis_pose",
    "personal": "scripts/personalize.py",
}
# what --fix_net<name> names; E_mouth and E_headpose are heads of E, and E its trunk
FREEZABLE = ("V", "E", "E_mouth", "E_headpose", "A_sync", "A", "G", "D")


@dataclass(frozen=True)
class TrainConfig:
    """One run of train.py."""

    name: str = "train"
    checkpoints_dir: Path = Path("checkpoints")
    which_epoch: str = "latest"
    stage: str = "joint"
    gpu_ids: tuple[int, ...] = (0,)
    precision: str = "fp32"
    batch_size: int = 16  # clips of all devices together
    num_threads: int = 4
    seed: int = 0
    # data
    dataset_mode: str = "voxtrain"
    dataroot: Path | None = None
    train_list: Path | None = None
    val_list: Path | None = None
    # what is trained
    use_audio_id: bool = False
    input_id_feature: bool = True
    generate_from_audio_only: bool = False
    use_noise: bool = True  # G gets fresh noise in every step
    frozen: tuple[str, ...] = ()
    moving: tuple[str, ...] = ()  # of the stage's own networks only parameters that begin so, `letter.name`; (): all
    vgg_path: Path | None = None
    vggface_path: Path | None = None
    attributes_path: Path | None = None
    # where it starts
    continue_train: bool = False
    pretrain_dirs: tuple[Path, ...] = ()
    pretrain_paths: tuple[tuple[str, Path], ...] = ()  # (letter, file)
    grow_generator: bool = False
    # how long, and what is kept
    max_steps: int | None = None
    max_minutes: float | None = None
    save_freq: int = 1000  # steps
    save_epoch_freq: int = 10  # epochs
    keep_last: int = 3
    # what is shown
    print_freq: int = 50
    display_freq: int = 500
    val_freq: int = 1000
    val_batches: int = 8
    use_html: bool = True
    use_tensorboard: bool = True
    probe_path: Path | None = None
    # engine
    gradient_checkpointing: bool = False
    sync_batch_norm: bool = True  # statistics over all processes, as if they were one
    dry_run: bool = False
    # parts
    audio: AudioConfig = field(default_factory=AudioConfig)
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    personal: PersonalConfig = field(default_factory=PersonalConfig)

    @property
    def directory(self) -> Path:
        return self.checkpoints_dir / self.name

    @property
    def has_adversary(self) -> bool:
        """Whether the stage trains G against D."""
        return self.stage in ("joint", "dis_pose", "personal")

    @property
    def needs_labels(self) -> bool:
        """Whether a loss looks at the speaker (or word) of a clip."""
        return self.stage in ("recognition", "dis_pose") or (self.has_adversary and self.loss.lambda_identity > 0)

    def steps_per_epoch(self, num_clips: int) -> int:
        """Optimiser steps in which each of `num_clips` comes once."""
        return max(1, num_clips // (self.batch_size * self.optim.accumulate))

    @property
    def letters(self) -> tuple[str, ...]:
        if self.stage == "recognition":
            return ("V", "A") if self.use_audio_id else ("V",)
        return ("A_sync", "E") if self.stage == "sync" else ("G", "V", "E", "A_sync", "D")

    @property
    def fields(self) -> frozenset[str]:
        """What the stage needs of an item of the data set."""
        if self.stage == "recognition":
            return frozenset({"reference", "voice"} if self.use_audio_id else {"reference"})
        if self.stage == "sync":
            return frozenset({"augmented", "mel"})
        return frozenset({"reference", "target", "augmented", "mel"})
