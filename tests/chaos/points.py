"""The points of a prompt's path at which a worker is killed: every await of it, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LOST = {"lost_answer": {"rate": 0.4, "how": "reset"}}
ALL_LOST = {"lost_answer": {"rate": 1.0, "how": "502"}}
LATE = {"delay": {"rate": 1.0, "kinds": ["create"], "seconds": 0.2}}
THROTTLED = {"throttle": {"rate": 0.1, "kinds": ["create"], "seconds": 1}}
INTERRUPTED = {"failed": {"rate": 0.2, "text": "Prediction interrupted; please retry (code: PA)"}}
LOST_UPLOAD = {"lost_answer": {"rate": 1.0, "kinds": ["upload"], "how": "reset"}}
REFUSED = {"failed": {"rate": 0.3, "text": "flagged as sensitive (E005)"}}


@dataclass(frozen=True)
class Point:
    """Where workers are killed: at the n-th call, n at most `most`; `having` is a pattern of the calls that count."""

    target: str
    when: str = "before"
    most: int = 60
    times: int = 2
    having: str = ""
    label: str = ""
    faults: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How the matrix calls it."""
        extra = f" ({', '.join(self.faults)})" if self.faults else ""
        return f"{self.when} {self.label or self.target.partition(':')[2]}{extra}"


def both(target: str, most: int = 60, **more: Any) -> tuple[Point, Point]:
    """The point before a call and the one after it."""
    return Point(target, "before", most, **more), Point(target, "after", most, **more)


RENAME = both("os:rename", having="src_dir_fd", label="the commit's rename")
WRITTEN = Point("worker.outputs.disk:write_file", "after", having="output", label="a file's bytes are on disk")
SHARD = (
    *both("worker.lifecycle:acquire_lease", 2),
    Point("worker.leases:Leases.acquire", "after", 2),
    *both("worker.shard.run:run_shard", 1),
    Point("jobs.state.batches:Batches.standing", "after", 2),
    *both("worker.shard.run:find_folder", 2),
    *both("worker.shard.run:read_pending", 2),
    Point("worker.shard.run:predict_until_change", "before", 2),
)
CREATE = (
    Point("worker.prompt.predict:predict"),
    Point("worker.prompt.save:read_record", "after"),
    Point("worker.prompt.predict:attempt"),
    Point("jobs.state.ledger:Ledger.read", "after", 3, faults=THROTTLED),
    Point("worker.prompt.admission:Permit.acquire", "after"),
    *both("worker.prompt.predict:run_attempt"),
    *both("worker.prompt.create:create"),
    Point("worker.limits.rate_limiter:RateLimiter.acquire", "after"),
    *both("worker.prompt.create:_post_and_record"),
    *both("jobs.state.ledger:Ledger.intend"),
    *both("jobs.replicate_api.predictions:Replicate.create"),
    Point("jobs.replicate_api.predictions:Replicate.create", "before", 60, faults=LATE),
    *both("jobs.state.ledger:Ledger.record"),
)
UPLOAD = (
    *both("worker.uploads.uploader:Uploader.ensure"),
    Point("worker.leases:Leases.try_acquire", "after", 2, having="upload:"),
    *both("jobs.state.uploads:BatchUploads.begin", 2),
    *both("jobs.replicate_api.files:Files.create", 2),
    *both("jobs.state.uploads:BatchUploads.record", 2),
    *both("jobs.replicate_api.files:Files.list", 2, faults=LOST_UPLOAD),
    Point("worker.uploads.uploader:Uploader.check", "after"),
    *both("worker.uploads.uploader:Uploader.ids", 20, faults=LOST),
)
SAVE = (
    *both("worker.prompt.predict:follow"),
    *both("worker.polling.poller:Poller.wait"),
    *both("worker.prompt.predict:save_or_classify"),
    *both("worker.prompt.predict:judge"),
    Point("worker.limits.circuit_breaker:CircuitBreaker.record_outcome", "after"),
    *both("worker.prompt.save:save"),
    *both("worker.outputs.saver:OutputSaver.save"),
    *both("worker.outputs.file_writer:FileWriter.finish"),
    *both("worker.outputs.staging:Staging.commit"),
    WRITTEN,
    *RENAME,
    *both("worker.prompt.predict:settle"),
    *both("jobs.state.batches:Batches.settle"),
)
SEGMENT = (
    *both("worker.shard.run:keep_rows", 1),
    *both("jobs.batch_folder.rows.segment:move_segment", 1, label="a segment's rename"),
)
LAST = (
    *both("worker.shard.finish:finish_batch", 1),
    Point("jobs.batch_folder.results:writing_results", "before", 1),
    *both("jobs.batch_folder.gallery:write_gallery", 1),
    Point("jobs.state.batches:Batches.finish", "before", 1),
    Point("jobs.state.batches:Batches.finish", "after", 1, times=1),  # it is finished: nobody comes here again
    *both("worker.lifecycle:release_lease", 1),
)
DELETED = (
    Point("worker.uploads.deletion:UploadDeletion._delete_all", "before", 1),
    *both("jobs.state.uploads:BatchUploads.retire", 1),
    Point("jobs.replicate_api.files:Files.delete", "before", 3),
    Point("jobs.replicate_api.files:Files.delete", "after", 3, times=1),  # what is deleted is not deleted again
    *both("jobs.state.uploads:BatchUploads.forget", 3),
    Point("jobs.state.uploads:BatchUploads.close", "before", 1),
)
UPLOADED = Point("jobs.replicate_api.files:Files.create", "after", 2)
DELETED_LOST = both("worker.uploads.deletion:UploadDeletion._delete_lost", 1)
AFTER_FAULTS = (
    *both("worker.prompt.create:search", 20, faults=LOST),
    *both("worker.orphans.search:OrphanSearch.find", 20, faults=LOST),
    *both("jobs.state.claims:Claims.unclaimed", 20, faults=LOST),
    *both("jobs.state.ledger:Ledger.record", faults=ALL_LOST),
    *both("jobs.state.ledger:Ledger.withdraw", 3, faults=THROTTLED),
    Point("jobs.state.ledger:Ledger.confirm", "after", 20, faults=INTERRUPTED),
    *both("worker.prompt.predict:close_attempt", 20, faults=INTERRUPTED),
    *both("jobs.state.ledger:Ledger.close", 20, faults=INTERRUPTED),
    *both("worker.prompt.save:commit_failure", 20, faults=REFUSED),
)
REPLACED = both("jobs.state.ledger:Ledger.intend", 5, having="'replace': True", label="Ledger.intend, replacing")
CANCELED = (
    *both("worker.prompt.predict:cancel_prompt", 40),
    *both("worker.prompt.create:cancel_prediction", 40),
    *both("jobs.replicate_api.predictions:Replicate.cancel", 20),
)
RESCUE = (
    *both("worker.shard.rescue:Rescue._rescue_shard", 1),
    *both("worker.shard.rescue:Rescue._resume_prompt", 15),
    *both("worker.prompt.predict:resume", 15),
)
