"""The end of a personal training: its report, and a row to start from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from data.clip_list import ClipRecord, read_list
from data.clip_reader import find_sound
from data.frames import crop_template, read_image
from models.av_model import AvModel
from models.trainers.loop import Best
from options.config import FPS, PERSON, DataConfig, NetworkConfig
from scripts.personal.faces import FaceReader
from scripts.personal.intake import Intake
from scripts.personal.measure import measure_model, measure_truth, warnings
from scripts.personal.people import person_records
from scripts.personal.plan import Plan
from scripts.personal.report import REPORT_PAGE, Facts, write_report, write_row
from util.checkpoint import network_path
from util.device import select_device

logger = logging.getLogger(__name__)


def finish(
    plan: Plan, intake: Intake, reader: FaceReader, ended: tuple[Path, Best, str], audio: Path | None, minutes: float
) -> Path | None:
    """Measures, writes and prints the report.

    Returns:
        the csv with a row to start from: with the given sound, or that of the held-out part; None without a sound.

    Args:
        ended: folder of the run whose best weights are measured, that look, and why it ended.
    """
    run, best, why = ended
    network_path(plan.directory, "latest", "D").unlink(missing_ok=True)  # the state file has it
    network = NetworkConfig.of_checkpoint(plan.base)
    data = DataConfig(crop_size=network.crop_size)
    held_out = _longest_first(read_list(intake.held_out_list) if intake.held_out_list else [])
    reference = crop_template(read_image(plan.reference / "000000.jpg"), data)
    device = select_device(plan.gpu_ids)
    base = AvModel.from_checkpoints(plan.base, "latest", network, device)
    own = AvModel.from_checkpoints(run, str(best.step), network, device)
    sides = {}
    for side, model in (("base", base), ("personal", own)):
        logger.info("measuring %s", side)
        sides[side] = measure_model(model, base, reader, reference, held_out, data)
    sides["truth"] = measure_truth(reader, held_out, data)
    person = person_records(intake, plan.work, with_all=plan.use_all)
    spoken = [record for record in person if record.label == PERSON]
    facts = Facts(
        plan, best, why, minutes, sum(record.num_frames for record in spoken) / FPS, len(intake.photos), intake.checks,
        warnings(sides["personal"].figures, sides["truth"].figures, best.step),
    )  # fmt: skip
    print(write_report(plan.directory, facts, sides))
    print(f"look at {plan.directory / REPORT_PAGE}")
    folders = [record for record in _longest_first(spoken) if record.path.is_dir()]
    pose = (folders[0].path, folders[0].num_frames) if folders else None
    sound = audio or next((find_sound(record.path, record.audio) for record in held_out), None)
    return None if sound is None else write_row(plan, pose, sound)


def _longest_first(records: Sequence[ClipRecord]) -> list[ClipRecord]:
    return sorted(records, key=lambda record: -record.num_frames)
