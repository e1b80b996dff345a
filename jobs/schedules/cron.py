"""When a cron expression fires in a time zone; the clock's two changes a year included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from math import floor
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_AMBIGUOUS = timedelta(hours=3)
"""No clock is set back by more than this."""


class LocalZone(tzinfo):
    """The machine's own time zone with its daylight saving; Python has only its offset of the moment."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Offset of a wall time, the second of two equal ones by its `fold`."""
        return moment.replace(tzinfo=None).astimezone().utcoffset() if moment else None

    def dst(self, _moment: datetime | None) -> timedelta | None:
        """Not told by the system."""
        return None

    def tzname(self, _moment: datetime | None) -> str:
        """`local`, as lists of schedules show it."""
        return "local"

    def fromutc(self, moment: datetime) -> datetime:
        """Wall time of a moment, with `fold`."""
        return datetime.fromtimestamp(moment.replace(tzinfo=UTC).timestamp()).replace(tzinfo=self)  # noqa: DTZ006 - the wall time is wanted

    def __str__(self) -> str:
        return "local"


def zone(name: str | None) -> tzinfo:
    """The time zone of that name, None = the machine's; ValueError when there is none."""
    if name is None:
        return LocalZone()
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone: write one like Europe/Berlin or UTC") from None


def check_cron(expression: str) -> None:
    """Raise ValueError with what is wrong with a cron expression of five fields."""
    fields = len(expression.split())
    if fields != 5:
        raise ValueError(
            f"{expression!r} has {fields} field{'' if fields == 1 else 's'}; cron takes five: "
            "minute, hour, day of month, month, day of week"
        )
    try:
        fires = next(CronSim(expression, datetime.now(UTC)), None)
    except CronSimError as error:
        raise ValueError(f"{expression!r}: {str(error).lower()}") from None
    except ValueError:
        raise ValueError(f"{expression!r} is not a cron expression") from None
    if fires is None:
        raise ValueError(f"{expression!r} never fires")


def next_fire(cron: str, zone: tzinfo, now: float) -> float | None:
    """The first fire time after `now`, in Unix seconds; None when there is none."""
    for fire in CronSim(cron, datetime.fromtimestamp(floor(now), zone)):
        if fire.timestamp() > now:
            return fire.timestamp()
    return None


def last_fire(cron: str, zone: tzinfo, now: float) -> float | None:
    """The last fire time up to and with `now`, in Unix seconds; None when there is none.

    In the hour that comes twice cronsim goes by the wall clock and would miss what fired in its first
    half: begin after that hour and pass over what is to come.
    """
    local = datetime.fromtimestamp(floor(now) + 1, zone)
    for fire in CronSim(cron, local + _AMBIGUOUS if local.fold else local, reverse=True):
        if fire.timestamp() <= now:
            return fire.timestamp()
    return None


def label(fire: float, zone: tzinfo) -> str:
    """`2026-11-21T0200` in the zone; in the second of two equal hours `…b`, so that no two are the same."""
    local = datetime.fromtimestamp(fire, zone)
    return f"{local:%Y-%m-%dT%H%M}{'b' if local.fold else ''}"


def shown(fire: float | None, zone: tzinfo) -> str | None:
    """RFC 3339 with the zone's offset."""
    return None if fire is None else datetime.fromtimestamp(fire, zone).isoformat(timespec="seconds")
