"""How a base is fitted to a person: what moves, at which rate, for how many steps; kept as personal.json."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from options.config import (
    INFERENCE_LETTERS,
    AudioConfig,
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimConfig,
    PersonalConfig,
    TrainConfig,
)
from options.network_sizes import count_parameters
from util.checkpoint import network_path
from util.errors import CheckpointError, OptionError

PLAN_FILE = "personal.json"
WATCHED = "watched"  # folder of the run that finds the number of steps for --use_all
_SMALL = 20_000_000  # parameters, up to which all networks of a base move
_LEVELS = 3  # resolutions of a large G that move, the highest ones
_MOST_STEPS = 250  # of a large base: more of them cost expression
_MOST_PHOTO_STEPS = 300
_WARM_UP = 30  # steps
_NEVER = 10**9


@dataclass(frozen=True)
class Plan:
    """One personal training. With the steps in it, what comes out no longer depends on how fast the machine is."""

    name: str
    checkpoints_dir: Path
    base: Path  # folder of the model that is fitted
    work: Path  # folder of the prepared pieces and of other people's clips
    minutes: float
    use_all: bool
    only_photos: bool
    gpu_ids: tuple[int, ...]
    seed: int
    others: int  # synthetic people beside the person
    steps: int = 1
    look_every: int = 1  # steps between two looks at the watched part

    @property
    def directory(self) -> Path:
        """What the command makes: weights, pages, report."""
        return self.checkpoints_dir / self.name

    @property
    def is_small(self) -> bool:
        """Whether all networks of the base move."""
        sizes = count_parameters(NetworkConfig.of_checkpoint(self.base))
        return sum(sizes[letter] for letter in INFERENCE_LETTERS) <= _SMALL

    @property
    def reference(self) -> Path:
        """Folder of the picture that the person is shown by."""
        return self.directory / "reference" / self.name

    def with_steps(self, steps: int) -> Plan:
        """The plan with so many steps, however long they take."""
        return dataclasses.replace(self, steps=steps, look_every=max(1, steps // 20))

    def with_times(self, step_s: float, look_s: float) -> Plan:
        """The plan with as many steps as fit into its minutes: a look about once a minute, in a fifth of the time."""
        interval_s = max(60.0, 5 * look_s)
        looks = max(1, round(60 * self.minutes / interval_s))
        per_look = max(1, int((60 * self.minutes / looks - look_s) / step_s))
        most = _MOST_PHOTO_STEPS if self.only_photos else _NEVER if self.is_small else _MOST_STEPS
        steps = min(per_look * looks, most)
        return dataclasses.replace(self, steps=steps, look_every=min(per_look, max(1, steps // 5)))


def find_base(name: str | None, checkpoints_dir: Path) -> Path:
    """The folder of the base: that of the name, else `demo` where its weights are there, else `synthetic`.

    Raises OptionError: none of them is there.
    """
    for candidate in [name] if name else ["demo", "synthetic"]:
        folder = checkpoints_dir / candidate
        if all((folder / f"latest_net_{letter}.pth").is_file() for letter in INFERENCE_LETTERS):
            return folder
    hint = f"--base {name}: " if name else ""
    raise OptionError(f"{hint}{checkpoints_dir} holds no base with latest_net_G.pth, V, E and A_sync")


def train_config(
    plan: Plan, directory: Path, precision: str, use_noise: bool, max_steps: int | None = None
) -> TrainConfig:
    """The plan for the engine of train.py.

    Args:
        directory: of the run.
        use_noise: whether the base's G knows what to do with noise images.
        max_steps: end there, on the same schedule.
    """
    network = NetworkConfig.of_checkpoint(plan.base)
    own = _small(plan) if plan.is_small else _large(plan, network)
    return dataclasses.replace(
        own,
        name=directory.name,
        checkpoints_dir=directory.parent,
        stage="personal",
        gpu_ids=plan.gpu_ids,
        precision=precision,
        num_threads=1,
        seed=plan.seed,
        generate_from_audio_only=True,
        use_noise=use_noise,
        pretrain_dirs=(plan.base,),
        pretrain_paths=_discriminator(plan.base),
        max_steps=min(plan.steps, max_steps or plan.steps),
        save_freq=_NEVER,  # every look saves
        save_epoch_freq=_NEVER,
        keep_last=2,  # the best weights so far, and those that are about to take their place
        print_freq=max(1, plan.look_every // 4),
        display_freq=_NEVER,
        val_freq=plan.look_every,
        use_tensorboard=False,
        audio=AudioConfig(),
        network=network,
    )


def _discriminator(base: Path) -> tuple[tuple[str, Path], ...]:
    """The D that a base was trained against, where it lies in a folder of its own; a new D lets G blur at first."""
    beside = network_path(base.with_name(f"{base.name}_training"), "latest", "D")
    return (("D", beside),) if beside.is_file() and not network_path(base, "latest", "D").is_file() else ()


def _small(plan: Plan) -> TrainConfig:
    """All networks move, E and A_sync slowly: what they know of others' heads and voices is worth keeping.

    Of photos, which show neither, they stay, and pose weighs more: a still person teaches to stand still.
    """
    late = (("G", plan.steps // 3),) if plan.only_photos else ()
    return TrainConfig(
        batch_size=4,
        frozen=("E", "A_sync") if plan.only_photos else (),
        data=DataConfig(
            crop_size=NetworkConfig.of_checkpoint(plan.base).crop_size,
            clip_len=2,
            frame_interval=12,
            augment_shape=0.2,
            cache_gb=1.0,
        ),
        loss=LossConfig(
            lambda_vgg=0.0,
            lambda_own=10.0,
            lambda_laplacian=5.0,
            lambda_r1=1.0,
            lambda_identity=0.0,
            lambda_confusion=0.0,
            lambda_contrastive=0.0 if plan.only_photos else 1.0,
            contrastive_form="cosine",
        ),
        optim=_schedule(plan, lr=6e-4 if plan.only_photos else 1e-3, rates=(("E", 0.2), ("A_sync", 0.5)), late=late),
        personal=PersonalConfig(
            steps=plan.steps, lambda_pose=100.0 if plan.only_photos else 10.0, lambda_mouth=5.0, lambda_likeness=5.0,
            patience=_patience(plan), lambda_lips=10.0, first_share=0.5, last_share=0.5 if plan.only_photos else 0.25,
        ),
    )  # fmt: skip


def _large(plan: Plan, network: NetworkConfig) -> TrainConfig:
    """The last blocks of G move, of a photo also what makes its identity map; V, E and A_sync stay."""
    levels = range(_levels_of(network) - _LEVELS, _levels_of(network))
    moving = [f"G.to_rgbs.{level}." for level in levels]
    moving += [f"G.convs.{2 * level + half}." for level in levels for half in (0, 1)]
    moving += ["V.conv1x1.", "V.skips.", "V.model.layer4."] if plan.only_photos else []
    late = (("G", plan.steps // 3),) if plan.only_photos else ()
    return TrainConfig(
        batch_size=2,
        frozen=("E", "A_sync") if plan.only_photos else ("V", "E", "A_sync"),
        moving=tuple(moving),
        data=DataConfig(crop_size=network.crop_size, cache_gb=1.0),
        loss=LossConfig(
            lambda_vgg=0.0, lambda_own=10.0, lambda_laplacian=5.0, lambda_r1=1.0, lambda_identity=0.0,
            lambda_confusion=0.0, lambda_contrastive=0.0,
        ),
        optim=_schedule(plan, lr=2e-4, late=late),
        personal=PersonalConfig(
            steps=plan.steps, base_is_target=True, lambda_pose=10.0, lambda_mouth=5.0, lambda_likeness=5.0,
            patience=_patience(plan), lambda_lips=10.0,
        ),
    )  # fmt: skip


def _levels_of(network: NetworkConfig) -> int:
    """Resolutions of G above the smallest one."""
    smallest = 7 if network.image_size % 7 == 0 else 4
    return (network.image_size // smallest).bit_length() - 1


def _schedule(plan: Plan, lr: float, **settings: object) -> OptimConfig:
    """An epoch is a step here: the rate rises, holds for two thirds of the plan, then falls to 0.

    Adam's first steps are as large as any, whatever the gradients are: at the full rate they cost the base half of its
    pose control.
    """
    falling = max(1, plan.steps // 3)
    base = OptimConfig(
        lr=lr, beta1=0.5, beta2=0.99, amsgrad=False, niter=plan.steps - falling, niter_decay=falling,
        warm_up=min(_WARM_UP, plan.steps // 5), ema=0.99,
    )  # fmt: skip
    return dataclasses.replace(base, **settings)  # type: ignore[arg-type]


def _patience(plan: Plan) -> int:
    """Looks without a better one before it stops: two thirds of all, because falling rates at the end still help."""
    return max(10, 2 * (plan.steps // plan.look_every) // 3)


def require_free(plan: Plan) -> None:
    """Raises OptionError where a folder holds a run, or CheckpointError for weights of somebody else."""
    if (plan.directory / PLAN_FILE).is_file():
        raise OptionError(f"{plan.directory} holds a run already; go on with --continue, or choose another --name")
    if list(plan.directory.glob("*_net_*.pth")):
        raise CheckpointError(f"{plan.directory} holds weights already; choose another --name, or move them away")
