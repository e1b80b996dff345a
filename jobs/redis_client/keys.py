"""Every Redis key, with its type. What belongs to an account carries its API host.

Keys that arq reads and writes itself begin with `arq:`; all others are ours.
"""

from __future__ import annotations

PREFIX = "replicate-batch:"
VERSION = 1
"""Part of the queue's name: a worker never takes a payload in a format that it does not know."""

BATCHES = f"{PREFIX}batches"
"""ZSET: batch name → when it was created, Unix seconds."""

ARQ_JOB = "arq:job:"
"""STRING prefix (arq): a job's payload, by job id."""

ARQ_IN_PROGRESS = "arq:in-progress:"
"""STRING prefix (arq): set while a worker has the job."""

ARQ_RETRY = "arq:retry:"
"""STRING prefix (arq): how often a job was started."""


def queue(api_host: str) -> str:
    """ZSET (arq): job id → virtual time."""
    return f"{PREFIX}queue:{VERSION}:{api_host}"


def batch(name: str) -> str:
    """HASH: the fields of `wire.Batch`, and `last_shard`: the job id of the shard that was queued last."""
    return f"{PREFIX}batch:{name}"


def settled(name: str) -> str:
    """BITMAP: bit i is set when prompt i has its result."""
    return f"{PREFIX}settled:{name}"


def unsuccessful(name: str) -> str:
    """BITMAP: bit i is set when prompt i has a result other than succeeded."""
    return f"{PREFIX}unsuccessful:{name}"


def places(name: str) -> str:
    """ZSET: index of a prompt with a place in flight, in a batch that limits them → until when it counts, ms."""
    return f"{PREFIX}places:{name}"


def ledger(name: str) -> str:
    """HASH: index of a prompt → JSON of its open attempt."""
    return f"{PREFIX}ledger:{name}"


def retried(name: str) -> str:
    """HASH: index of a prompt → how often it was retried; only prompts that were."""
    return f"{PREFIX}retried:{name}"


def uploads(name: str) -> str:
    """HASH: sha256 of a local file in an input → JSON of its uploads at Replicate; only batches with such files."""
    return f"{PREFIX}uploads:{name}"


def to_cancel(name: str) -> str:
    """BITMAP: bit i is set from the cancel of prompt i by hand until it has its result; only batches with such."""
    return f"{PREFIX}to-cancel:{name}"


def kept_with_batch(name: str) -> list[str]:
    """The keys that expire with a finished batch and are persisted when it is reopened, in the order of Lua scripts."""
    return [key(name) for key in (batch, settled, unsuccessful, ledger, retried, places, uploads, to_cancel)]


def runs(name: str) -> str:
    """HASH: job id → JSON of a shard's runs: the open run, how many died in a row, why it is a dead letter; 30 days."""
    return f"{PREFIX}runs:{name}"


def waits(name: str) -> str:
    """HASH: worker id → JSON of what prompts of the batch wait for in it, and until when that is valid; a minute."""
    return f"{PREFIX}waits:{name}"


def events(name: str) -> str:
    """STREAM: JSON of what happened to the batch, except failures; 30 days after the last."""
    return f"{PREFIX}events:{name}"


def failures(name: str) -> str:
    """STREAM: JSON of the last failures of its prompts; 30 days after the last."""
    return f"{PREFIX}failures:{name}"


PACE_SPAN = 5
"""Seconds in one span of `pace`."""


def pace(name: str, span: int) -> str:
    """STRING: results counted in one span (Unix time // PACE_SPAN); expires by itself."""
    return f"{PREFIX}pace:{name}:{span}"


def claim(api_host: str, prediction_id: str) -> str:
    """STRING: `<batch>:<index>` of the prompt that a prediction serves; two hours."""
    return f"{PREFIX}claim:{api_host}:{prediction_id}"


def lease(name: str) -> str:
    """STRING: owner of a shard (`<batch>:<n>`) or of a role; expires unless renewed."""
    return f"{PREFIX}lease:{name}"


def asked(api_host: str) -> str:
    """LIST: what workers wait for, for the polling leader (`lease` of `sweeper:<api host>`); a minute."""
    return f"{PREFIX}asked:{api_host}"


def answered(api_host: str, worker_id: str) -> str:
    """LIST: JSON of predictions that ended, for a worker that waits for them; a minute."""
    return f"{PREFIX}answered:{api_host}:{worker_id}"


def limit(api_host: str, bucket: str) -> str:
    """HASH: state of one rate limit (`create`, `read`)."""
    return f"{PREFIX}limit:{api_host}:{bucket}"


def model_in_flight(api_host: str, model: str) -> str:
    """ZSET: `<batch>/<prompt id>` with a prediction of a model that has a limit → until when it counts, ms."""
    return f"{PREFIX}model-in-flight:{api_host}:{model}"


def limited_models(api_host: str) -> str:
    """SET: models that have a limit of their own, and had a prediction in flight."""
    return f"{PREFIX}limited-models:{api_host}"


def model_rate(api_host: str, model: str) -> str:
    """STRING: when the next create of a model that has a limit is due, µs."""
    return f"{PREFIX}model-rate:{api_host}:{model}"


def model(api_host: str, name: str) -> str:
    """STRING: JSON of what the API said of a model; an hour."""
    return f"{PREFIX}model:{api_host}:{name}"


def pause(api_host: str) -> str:
    """STRING: why no predictions may be created; until `resume`."""
    return f"{PREFIX}pause:{api_host}"


def own_pause(api_host: str) -> str:
    """HASH: a pause that a worker set: by (401, 402), and when it is checked again, ms."""
    return f"{PREFIX}own-pause:{api_host}"


def breaker(api_host: str) -> str:
    """HASH: model → refusals in a row and the ends of its last predictions; a week."""
    return f"{PREFIX}breaker:{api_host}"


def paused_models(api_host: str) -> str:
    """HASH: model that its breaker paused → JSON of a `ModelPause`; expires after a day without a probe."""
    return f"{PREFIX}paused-models:{api_host}"


def breaker_report(api_host: str, who: str) -> str:
    """STRING: JSON: number of the last report of a worker to the breakers, and what it changed; a day."""
    return f"{PREFIX}breaker-report:{api_host}:{who}"


def trouble(api_host: str) -> str:
    """STRING: why creates wait for the moment (a full disk, say); expires by itself."""
    return f"{PREFIX}trouble:{api_host}"


def notice(api_host: str) -> str:
    """STRING: what people should know at present, though nothing waits for it; expires by itself."""
    return f"{PREFIX}notice:{api_host}"


def workers(api_host: str) -> str:
    """ZSET: worker id → until when its last heartbeat is valid, Unix seconds."""
    return f"{PREFIX}workers:{api_host}"


def worker_reports(api_host: str) -> str:
    """HASH: worker id → JSON of a `WorkerReport`: what it does; removed with it, or an hour after its death."""
    return f"{PREFIX}worker-reports:{api_host}"


def actions(api_host: str) -> str:
    """LIST: JSON of an `Action` that somebody took from the dashboard, newest first; the last 1,000."""
    return f"{PREFIX}actions:{api_host}"


def schedule(api_host: str, name: str, due: int) -> str:
    """STRING: the batch of a schedule for that time (Unix seconds); expires soon until it is done, then late."""
    return f"{PREFIX}schedule:{api_host}:{name}:{due}"


def schedules(api_host: str) -> str:
    """HASH: schedule name → JSON of a `ScheduleState`: its times, what it fired last, what it missed."""
    return f"{PREFIX}schedules:{api_host}"


def schedule_trouble(api_host: str) -> str:
    """STRING: what is wrong with the file of schedules, as a worker reads it; expires by itself."""
    return f"{PREFIX}schedule-trouble:{api_host}"


def event(api_host: str, event_id: str) -> str:
    """STRING: JSON of a `notify.event.Event` that people are notified of; a week, in which it is posted only once."""
    return f"{PREFIX}event:{api_host}:{event_id}"


def deliveries(api_host: str) -> str:
    """ZSET: `<receiver>/<event id>` that is to be delivered → when it is due, Unix seconds."""
    return f"{PREFIX}deliveries:{api_host}"


def delivery_tries(api_host: str) -> str:
    """HASH: `<receiver>/<event id>` → how often its delivery was tried."""
    return f"{PREFIX}delivery-tries:{api_host}"


def delivery_log(api_host: str) -> str:
    """LIST: JSON of a `notify.delivery.Record`: how the last tries ended, newest first."""
    return f"{PREFIX}delivery-log:{api_host}"


def episode(api_host: str, condition: str) -> str:
    """STRING: since when a condition that people are notified of lasts, Unix seconds; expires an hour after its end."""
    return f"{PREFIX}episode:{api_host}:{condition}"


def silenced(api_host: str) -> str:
    """HASH: receiver that answered 410 → the mark of its address then."""
    return f"{PREFIX}silenced:{api_host}"
