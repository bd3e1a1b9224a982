"""The tools that say how projects stand: from a file that a person keeps, or from a sample."""

import asyncio
import difflib
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import yaml

from bascule.documents import yaml_problem
from bascule.errors import ConfigInvalid
from bascule.packs.pack import Asked, Pack, ToolFailed
from bascule.packs.rooted import Root
from bascule.text import Text

GET_STATUS: Final = "project/get_status"
LIST: Final = "project/list_projects"
SAMPLE: Final = "sample"
MAX_BYTES: Final = 256 * 1024
MAX_PROJECTS: Final = 500

Status = Literal["on_track", "at_risk", "delayed", "done", "paused"]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Milestone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    due: date
    done: bool = False


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: Name
    status: Status
    due: date  # as planned
    as_of: date  # when this was so
    delay_days: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    lead: Annotated[str, msgspec.Meta(max_length=200)] = ""
    summary: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    milestones: Annotated[tuple[Milestone, ...], msgspec.Meta(max_length=100)] = ()


class Portfolio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds."""

    projects: Annotated[tuple[Project, ...], msgspec.Meta(max_length=MAX_PROJECTS)]


SAMPLES: Final = Portfolio(
    (
        Project(
            name="Project Alpha",
            status="delayed",
            delay_days=7,
            due=date(2026, 12, 11),
            as_of=date(2026, 11, 20),
            lead="Trần Minh",
            summary="Integration with the billing system is behind its plan.",
            milestones=(
                Milestone("Requirements", date(2026, 9, 4), done=True),
                Milestone("Integration", date(2026, 11, 13)),
                Milestone("Acceptance", date(2026, 12, 4)),
            ),
        ),
        Project(
            name="Project Beta",
            status="on_track",
            due=date(2027, 2, 26),
            as_of=date(2026, 11, 20),
            lead="Lê Hoa",
            summary="The pilot runs with two customers.",
            milestones=(Milestone("Pilot", date(2026, 11, 27)),),
        ),
        Project(name="Project Gamma", status="done", due=date(2026, 10, 30), as_of=date(2026, 11, 2), lead="Ann Lee"),
    )
)


class GetStatus(msgspec.Struct, frozen=True):
    project_name: str


class ListProjects(msgspec.Struct, frozen=True):
    status: Status | None = None
    limit: int = 50


class Projects:
    """The tools, and where the projects stand."""

    def __init__(self, root: Root | None, path: str | None) -> None:
        self._root = root
        self._path = path

    async def get_status(self, wanted: GetStatus, asked: Asked) -> dict[str, Any]:
        del asked
        portfolio = await asyncio.to_thread(self._read)
        project = found(portfolio, wanted.project_name)
        expected = project.due + timedelta(days=project.delay_days)
        open_ones = [each for each in project.milestones if not each.done]
        return {
            "project_name": project.name,
            "status": project.status,
            "delay_days": project.delay_days,
            "due": project.due.isoformat(),
            "expected": expected.isoformat(),
            "lead": project.lead,
            "summary": project.summary,
            "open_milestones": [{"name": each.name, "due": each.due.isoformat()} for each in open_ones],
            "as_of": project.as_of.isoformat(),
            "source": self._path or SAMPLE,
        }

    async def list_projects(self, wanted: ListProjects, asked: Asked) -> dict[str, Any]:
        del asked
        portfolio = await asyncio.to_thread(self._read)
        fitting = [each for each in portfolio.projects if wanted.status in (None, each.status)]
        shown = [{"name": each.name, "status": each.status, "delay_days": each.delay_days} for each in fitting]
        return {"projects": shown[: wanted.limit], "total": len(fitting), "source": self._path or SAMPLE}

    def _read(self) -> Portfolio:
        """Anew each time: a person keeps the file. Raises ToolFailed."""
        if self._root is None or self._path is None:
            return SAMPLES
        content = self._root.read(self._path, MAX_BYTES)
        try:
            return portfolio_of(self._path, content)
        except (ValueError, ConfigInvalid) as error:
            raise ToolFailed(
                f"The file of projects, {self._path}, cannot be read: {error}.", "Tell the person who keeps it."
            ) from error


def portfolio_of(path: str, content: bytes) -> Portfolio:
    """The projects in the file *path*. Raises ValueError, with what is wrong."""
    try:
        text = content.decode()
        # A few lines of aliases may stand for any number of values, and nobody needs one here.
        if not path.endswith(".json") and any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(text)):
            raise ValueError("aliases are not read here")
        return msgspec.convert(Text(Path(path), text).value(), Portfolio)
    except yaml.MarkedYAMLError as error:
        raise ValueError(yaml_problem(error)) from error
    except yaml.YAMLError as error:
        raise ValueError("not YAML") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def found(portfolio: Portfolio, name: str) -> Project:
    """The project of that *name*, whatever the case of its letters. Raises ToolFailed, with names that are near."""
    by_name = {_plain(each.name): each for each in portfolio.projects}
    if (project := by_name.get(_plain(name))) is not None:
        return project
    near = difflib.get_close_matches(_plain(name), list(by_name), 3, cutoff=0.5)
    names = ", ".join(by_name[each].name for each in near)
    do = f"Did you mean {names}?" if names else "See which there are: project/list_projects lists them."
    raise ToolFailed(f"There is no project {name[:200]!r}.", do)


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def add(pack: Pack, root: Root | None, path: str | None) -> None:
    """Have *pack* keep the contracts for projects."""
    projects = Projects(root, path)
    pack.tool(GET_STATUS, projects.get_status)
    pack.tool(LIST, projects.list_projects)
