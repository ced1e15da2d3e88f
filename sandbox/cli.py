"""`juju` for the sandbox: Juju's verbs, arguments and exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from sandbox import commands, controller

CHARM = (
    "--channel= --revision= --base= --bind= --force --trust --config=* --resource=* --storage=*"
)
PROMPT = "-y/--no-prompt --destroy-storage --force --no-wait"
COMMANDS: dict[str, tuple[Callable[..., Any], str]] = {
    "add-model": (
        commands.add_model,
        "name cloud? -c/--controller= --no-switch --config=* --credential= --owner=",
    ),
    "models": (commands.models, "--all =tabular"),
    "show-model": (commands.show_model, "name? =yaml"),
    "switch": (commands.switch, "name?"),
    "destroy-model": (commands.destroy_model, f"name {PROMPT} --release-storage -t/--timeout="),
    "model-config": (commands.model_config, "words* --reset=* =tabular"),
    "model-constraints": (commands.constraints, "=tabular"),
    "set-model-constraints": (commands.set_constraints, "constraints*"),
    "version": (commands.version, "--all =tabular"),
    "whoami": (commands.whoami, "=yaml"),
    "deploy": (
        commands.deploy,
        f"charm application? {CHARM} -n/--num-units=1 --constraints=* --overlay=* --to= --dry-run "
        "--attach-storage=*",
    ),
    "refresh": (
        commands.refresh,
        f"application {CHARM} --path= --force-units --force-base --switch=",
    ),
    "attach-resource": (commands.attach_resource, "application resource"),
    "config": (commands.config, "application words* --reset=* --file= =yaml"),
    "trust": (commands.trust, "application --remove --scope="),
    "add-unit": (commands.add_unit, "application -n/--num-units=1 --to= --attach-storage=*"),
    "remove-unit": (commands.remove_unit, f"applications+ --num-units=1 {PROMPT}"),
    "scale-application": (commands.scale_application, "application scale#"),
    "remove-application": (commands.remove_application, f"applications+ {PROMPT}"),
    "integrate": (commands.integrate, "one other --via="),
    "relate": (commands.integrate, "one other --via="),
    "remove-relation": (commands.remove_relation, "one other --force"),
    "resolved": (commands.resolved, "units+ --no-retry"),
    "constraints": (commands.constraints, "application =tabular"),
    "set-constraints": (commands.set_constraints, "application constraints*"),
    "expose": (commands.expose, "application"),
    "unexpose": (commands.expose, "application"),
    "status": (
        commands.status,
        "names* --relations --watch= --storage --color --no-color --utc =tabular",
    ),
    "show-unit": (commands.show_unit, "units+ =yaml"),
    "show-application": (commands.show_application, "application =yaml"),
    "storage": (commands.storage, "=tabular"),
    "remove-storage": (commands.remove_storage, "storage+"),
    "resources": (commands.resources, "application =tabular"),
    "actions": (commands.actions, "application --schema =tabular"),
    "show-status-log": (commands.show_status_log, "unit -n/--limit=# --type= =tabular"),
    "debug-log": (
        commands.debug_log,
        "-n/--limit=# --replay --tail -T/--no-tail -i/--include=* -x/--exclude=* "
        "--include-module=* -l/--level= =plain",
    ),
    "run": (commands.run, "words+ --wait= --params= --background --string-args --utc =plain"),
    "exec": (
        commands.execute,
        "-u/--unit=* --application/--app/-a=* --machine=* --all --wait= command... =plain",
    ),
    "show-task": (commands.show_task, "task =yaml"),
    "cancel-task": (commands.cancel_task, "task"),
    "ssh": (commands.ssh, "--container= --no-host-key-checks target command..."),
    "scp": (commands.scp, "--container= --no-host-key-checks paths..."),
    "add-secret": (commands.add_secret, "name words* --file= --info="),
    "update-secret": (commands.update_secret, "name words* --file= --info="),
    "grant-secret": (commands.grant_secret, "name applications"),
    "revoke-secret": (commands.grant_secret, "name applications"),
    "remove-secret": (commands.remove_secret, "name --revision=#"),
    "secrets": (commands.secrets, "--owner= =tabular"),
    "show-secret": (commands.show_secret, "name --reveal --revisions -r/--revision=# =yaml"),
}
"""Each verb: what does it, and its arguments. A word alone is a position (`?` may be left out, `*`
any number, `+` some, `...` all the rest, `#` a number); `--flag`, `--option=`, `--many=*`,
`--number=#`, `--number=1` (that by default); `=yaml` is the format when none is asked for."""


class Parser(argparse.ArgumentParser):
    """A parser whose refusals read like Juju's."""

    def error(self, message: str) -> NoReturn:
        """Print the refusal and end with code 2."""
        commands.say(f"ERROR {message}")
        raise SystemExit(2)


def parser() -> Parser:
    """Return the parser of every verb."""
    top = Parser(prog="juju", description="Juju's verbs on the sandbox.", allow_abbrev=False)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (do, words) in COMMANDS.items():
        verb = verbs.add_parser(name, help=do.__doc__, allow_abbrev=False)
        verb.set_defaults(do=do)
        verb.add_argument("-m", "--model")
        for word in words.split():
            _add(verb, word)
    return top


def _add(verb: Parser, word: str) -> None:
    """Give a verb the argument that a word of COMMANDS describes."""
    if word.startswith("="):
        formats = ["tabular", "json", "yaml", "smart", "plain"]
        verb.add_argument("--format", default=word[1:], choices=formats)
    elif not word.startswith("-"):
        name = word.rstrip("?*+.#")
        kind = word[len(name) :]
        how: dict[str, Any] = {"": {}, "#": {"type": int}}.get(kind, {"nargs": kind})
        if kind in ("*", "..."):
            how = {"nargs": argparse.REMAINDER if kind == "..." else "*", "default": []}
        verb.add_argument(name, **how)
    else:
        names, equals, kind = word.partition("=")
        how = {} if equals else {"action": "store_true"}
        if kind:
            number = {"type": int, "default": int(kind) if kind.isdigit() else None}
            how = {"action": "append", "default": []} if kind == "*" else number
        verb.add_argument(*names.split("/"), **how)


def main() -> int:
    """Run one command; return its exit code."""
    arguments = parser().parse_args()
    try:
        session = None if arguments.do is commands.version else commands.Session(arguments)
        return arguments.do(session, arguments) or 0
    except commands.UsageError as error:
        commands.say(f"ERROR {error}")
        return 2
    except BrokenPipeError:
        return 1
    except (controller.ControllerError, OSError) as error:
        commands.say(f"ERROR {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
