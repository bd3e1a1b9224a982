"""Servers: whether they can start, whether tomorrow the same will start, and what they are trusted with."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bascule.admin.doctor.finding import Finding, finding
from bascule.admin.doctor.setup import Setup
from bascule.config import ServerOptions, is_loopback
from bascule.upstream.stdio import StdioOptions

_LONG_S: Final = 600.0
_RUNNERS: Final = frozenset({"npx", "bunx", "uvx", "pipx"})  # they fetch a package and run it
_WITH_A_VALUE: Final = frozenset({"--with", "--python", "--index-url", "--registry", "-w", "--call", "-c"})
_NAMES_IT: Final = frozenset({"--package", "-p", "--from", "--spec"})
_DOCKER_FLAGS: Final = frozenset(
    {"-i", "-t", "-it", "-d", "--rm", "--init", "--read-only", "--privileged", "-q", "--quiet"}
)
_LATEST: Final = frozenset({"", "latest", "next", "*"})


def findings(setup: Setup) -> Iterator[Finding]:
    if not setup.config.servers:
        yield finding("no-servers", setup.at("servers"), "no server is served", "servers: {time: {command: uvx, …}}")
    for name, options in setup.config.servers.items():
        if isinstance(options, StdioOptions):
            yield from _of_command(setup, name, options)
        yield from _trusted(setup, name, options)
        yield from _patience(setup, name, options)
    if setup.shared and setup.config.servers and not any(each.required for each in setup.config.servers.values()):
        what = "no server is `required`: /health/ready says that all is well while every one of them is down"
        fix = f"servers.{next(iter(setup.config.servers))}.required: true"
        yield finding("nothing-required", setup.at("servers"), what, fix)


def _of_command(setup: Setup, name: str, options: StdioOptions) -> Iterator[Finding]:
    field = f"servers.{name}.command"
    if shutil.which(options.command, path=options.env.get("PATH", setup.environ.get("PATH"))) is None:
        what = f"{field}: {options.command!r} is not on PATH here"
        fix = f"{field}: /usr/local/bin/{Path(options.command).name}   # the whole path, or install it"
        yield finding("command-missing", setup.at(field), what, fix)
    if options.cwd is not None and not Path(options.cwd).expanduser().is_dir():
        field = f"servers.{name}.cwd"
        yield finding(
            "folder-missing", setup.at(field), f"{field}: there is no {options.cwd}", f"mkdir -p {options.cwd}"
        )
    if (package := unpinned(options)) is not None:
        field = f"servers.{name}.args"
        what = f"{field}: {package} may be another one at each start: nobody has looked at the one that comes tomorrow"
        fix = f"{field}: […, {_pinned(options.command, package)}, …]"
        yield finding("package-unpinned", setup.at(field), what, fix)
    if options.pass_environment:
        field = f"servers.{name}.pass_environment"
        what = f"{field}: it sees all of Bascule's environment, the secrets of other servers included"
        yield finding("environment-passed", setup.at(field), what, f"servers.{name}.env: {{TOKEN: ${{env:TOKEN}}}}")


def unpinned(options: StdioOptions) -> str | None:
    """The package or image that is fetched in whatever version is the newest; None for any other command."""
    runner = Path(options.command).name
    if runner == "docker":
        image = _image(options.args)
        return image if image is not None and not _image_is_pinned(image) else None
    words = options.args
    if runner in ("pnpm", "yarn") and words[:1] == ("dlx",):
        words = words[1:]
    elif runner == "uv" and words[:2] == ("tool", "run"):
        words = words[2:]
    elif runner not in _RUNNERS:
        return None
    package = _package(words)
    return package if package is not None and not _is_pinned(package) else None


def _package(words: Sequence[str]) -> str | None:
    """The first word that is no option; what `--from` and its like name goes before it."""
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in _NAMES_IT:
            return value if equals else next(rest, None)
        if option in _WITH_A_VALUE:
            if not equals:
                next(rest, None)
        elif not word.startswith("-") and word != "run":
            return word
    return None


def _is_pinned(package: str) -> bool:
    """Whether a version, a commit or a digest belongs to it; a path of this machine is what it is."""
    if package.startswith((".", "/")):
        return True
    if "==" in package or re.search(r"@[0-9a-f]{40}\b", package) or re.search(r"#[0-9a-f]{40}$", package):
        return True
    if "://" in package:
        return False
    _, _, version = package.removeprefix("@").partition("@")
    return version not in _LATEST and not re.match(r"[\^~><=*]", version)


def _image(words: Sequence[str]) -> str | None:
    """The image of `docker run`."""
    if "run" not in words:
        return None
    rest = iter(words[words.index("run") + 1 :])
    for word in rest:
        if not word.startswith("-"):
            return word
        if "=" not in word and word not in _DOCKER_FLAGS:
            next(rest, None)
    return None


def _image_is_pinned(image: str) -> bool:
    name, _, tag = image.rpartition("/")[2].partition(":")
    return "@sha256:" in image or ("@" not in name and tag not in _LATEST)


def _pinned(command: str, package: str) -> str:
    """*package* with a version, as its runner writes it."""
    if Path(command).name == "docker":
        return f"{package.rpartition('@')[0] or package.removesuffix(':latest')}:1.2.3"
    return f"{re.sub(r'(?<=.)@[^@/]*$', '', package)}@1.2.3"


def _trusted(setup: Setup, name: str, options: ServerOptions) -> Iterator[Finding]:
    # Of a pack the installed contracts hold, whatever its process lists.
    if options.trust == "auto" and name not in setup.config.packs:
        field = f"servers.{name}.trust"
        what = f"{field}: a tool that changes its definition overnight is served at once, unseen"
        yield finding("trust-auto", setup.at(field), what, f"{field}: pin")
    if options.trusted and not isinstance(options, StdioOptions):
        host = urlsplit(options.url).hostname or ""
        if not is_loopback(host):
            field = f"servers.{name}.trusted"
            what = f"{field}: {host} says itself which of its tools do no harm, and is believed"
            yield finding("believed-from-afar", setup.at(field), what, f"{field}: false   # and write contracts")


def _patience(setup: Setup, name: str, options: ServerOptions) -> Iterator[Finding]:
    if options.call_timeout_s > _LONG_S:
        field = f"servers.{name}.call_timeout_s"
        what = f"{field}: a call that hangs holds its place for {options.call_timeout_s / 60:g} minutes"
        yield finding("timeout-long", setup.at(field), what, f"{field}: 60")
    if options.required and options.fallback is None and setup.shared:
        field = f"servers.{name}"
        what = f"{field}: it is required, and nobody takes over while it fails"
        yield finding("no-fallback", setup.at(field), what, f"servers.{name}.fallback: OTHER_SERVER")
