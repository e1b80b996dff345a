"""What a shell runs to complete `replicate-batch`, and where it looks for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.batch_folder.atomic_files import replacing, storing

PROGRAM = "replicate-batch"
MARK = "# completion of replicate-batch"

# The program is asked as typer's bash script asks it: a candidate a line, nothing on standard error.
BASH = """\
_replicate_batch() {
    local IFS=$'\\n'
    COMPREPLY=( $(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        _REPLICATE_BATCH_COMPLETE=complete_bash "$1" 2>/dev/null) )
}
complete -o default -F _replicate_batch replicate-batch
"""

# `compinit -i` leaves out folders that others may write to, instead of asking about them at each start.
ZSH = """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
_replicate_batch() {
    local -a found
    found=(${(f)"$(COMP_WORDS="${(F)words}" COMP_CWORD=$(( CURRENT - 1 )) \\
        _REPLICATE_BATCH_COMPLETE=complete_bash "${words[1]}" 2>/dev/null)"})
    if (( $#found )); then compadd -V candidates -- $found; else _files; fi
}
compdef _replicate_batch replicate-batch
"""

FISH = """\
function __replicate_batch
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l found (env COMP_WORDS=(string join \\n -- $words $word | string collect) COMP_CWORD=(count $words) \\
        _REPLICATE_BATCH_COMPLETE=complete_bash $words[1] 2>/dev/null | string match -v "")
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path $word
    end
end
complete --command replicate-batch --no-files --keep-order --arguments '(__replicate_batch)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a shell's script goes, and the file that has to load it; None: the shell finds it."""

    script: Path
    startup: Path | None


def place_of(shell: str, environment: Mapping[str, str], home: Path) -> Place:
    """Where the script of a shell goes."""
    if shell == "fish":
        config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        return Place(config / "fish" / "completions" / f"{PROGRAM}.fish", None)
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    startup = home / ".bashrc" if shell == "bash" else Path(environment.get("ZDOTDIR") or home) / ".zshrc"
    return Place(data / PROGRAM / f"completion.{shell}", startup)


def shell_of(environment: Mapping[str, str]) -> str | None:
    """The person's login shell, if it is one of those that can be completed in."""
    name = Path(environment.get("SHELL", "")).name
    return name if name in SCRIPTS else None


def install(shell: str, place: Place) -> None:
    """Write the script, and let the shell load it when it starts; safe to repeat. StorageError."""
    with storing(place.script):
        place.script.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place.script, fsync=False) as file:
        file.write(SCRIPTS[shell].encode())
    if place.startup:
        with storing(place.startup):
            text = place.startup.read_bytes() if place.startup.exists() else b""
            if MARK.encode() not in text:
                with place.startup.open("ab") as startup:
                    gap = b"" if not text or text.endswith(b"\n") else b"\n"
                    startup.write(gap + f"[ -f '{place.script}' ] && . '{place.script}'  {MARK}\n".encode())
