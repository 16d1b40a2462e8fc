"""The wait graph as a picture: ``.dot`` for Graphviz, Mermaid for Markdown. Plain text; nothing is installed for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .model import Resource, Snapshot, Task
from .waitgraph import Knot, WaitGraph, find_knots
from .words import cut

# Beyond this many tasks a picture shows nothing: the knots, and the first of the others.
MOST_TASKS = 150

Edge = tuple[str, str, str]


def to_dot(snapshot: Snapshot, tasks: Iterable[int] | None = None) -> str:
    """The graph in Graphviz's language. ``tasks``: only these; by default those in knots, and then the others that wait on
    something, up to 150.
    """
    nodes, edges, left_out = _graph(snapshot, tasks)
    lines = ["digraph waits {", "  rankdir=LR;", '  node [fontname="Helvetica", fontsize=10];', "  edge [fontsize=9];"]
    for name, label, kind, stuck in nodes:
        shape = "box, style=rounded" if kind == "task" else "ellipse" if kind == "resource" else "plaintext"
        colour = ', color="red", penwidth=2' if stuck else ""
        lines.append(f"  {name} [label={_quote(label)}, shape={shape}{colour}];")
    lines += [f"  {source} -> {target} [label={_quote(label)}];" for source, target, label in edges]
    if left_out:
        lines.append(f"  more [label={_quote(f'and {left_out} more tasks')}, shape=plaintext];")
    return "\n".join([*lines, "}", ""])


def to_mermaid(snapshot: Snapshot, tasks: Iterable[int] | None = None) -> str:
    """The graph as a Mermaid flowchart, for Markdown. ``tasks`` as for ``to_dot``."""
    nodes, edges, left_out = _graph(snapshot, tasks)
    lines = ["flowchart LR"]
    red: list[str] = []
    for name, label, kind, stuck in nodes:
        text = _escape(label)
        lines.append(f'  {name}["{text}"]' if kind == "task" else f'  {name}(["{text}"])')
        if stuck:
            red.append(name)
    lines += [f'  {source} -->|"{_escape(label)}"| {target}' for source, target, label in edges]
    if left_out:
        lines.append(f'  more["and {left_out} more tasks"]')
    if red:
        lines += ["  classDef stuck stroke:#d00,stroke-width:3px", f"  class {','.join(red)} stuck"]
    return "\n".join([*lines, ""])


def _graph(snapshot: Snapshot, tasks: Iterable[int] | None) -> tuple[list[tuple[str, str, str, bool]], list[Edge], int]:
    """Nodes (name, label, kind, stuck), edges (from, to, label), and how many tasks were left out."""
    graph = WaitGraph(snapshot)
    knots = find_knots(snapshot, graph)
    stuck = {number for knot in knots for number in knot.ring}
    chosen, left_out = _chosen(graph, knots, tasks)
    nodes: dict[str, tuple[str, str, str, bool]] = {}
    edges: dict[Edge, None] = {}

    def task_node(number: int) -> str:
        name = _task_name(number)
        found = graph.tasks.get(number)
        if name not in nodes:
            nodes[name] = (name, _task_label(snapshot, found) if found else f"task {number}", "task", number in stuck)
        return name

    def resource_node(resource: Resource) -> str:
        name = f"r{resource.id}"
        nodes.setdefault(name, (name, cut(resource.text, 120), "resource", False))
        return name

    for number in chosen:
        task = graph.tasks[number]
        source = task_node(number)
        if task.waits is None:
            continue
        for each in graph.alternatives(task):
            resource = graph.resources.get(each)
            if resource is not None:
                edges[source, resource_node(resource), "waits"] = None
                _relations(graph, resource, resource_node(resource), set(chosen), task_node, nodes, edges)
    return list(nodes.values()), list(edges), left_out


def _relations(
    graph: WaitGraph,
    resource: Resource,
    name: str,
    chosen: set[int],
    task_node: Callable[[int], str],
    nodes: dict[str, tuple[str, str, str, bool]],
    edges: dict[Edge, None],
) -> None:
    for one in resource.holders[:MOST_TASKS]:
        edges[name, task_node(one), "held by"] = None
    for one in resource.satisfiers[:MOST_TASKS]:
        if one not in resource.holders and (one in chosen or len(resource.satisfiers) <= 10):
            label = "needs all: " if resource.needs_all else ""
            edges[name, task_node(one), f"{label}could be freed by"] = None
    if resource.freed_by != "tasks":
        text = "the outside" if resource.freed_by == "outside" else "somebody unknown"
        node = f"out_{resource.freed_by}"
        nodes.setdefault(node, (node, text, "outside", False))
        edges[name, node, "could be freed by"] = None


def _chosen(graph: WaitGraph, knots: tuple[Knot, ...], tasks: Iterable[int] | None) -> tuple[list[int], int]:
    if tasks is not None:
        return [number for number in tasks if number in graph.tasks], 0
    found = dict.fromkeys(number for knot in knots for number in (*knot.ring, *knot.behind))
    waiting = [task.id for task in graph.tasks.values() if task.waits is not None]
    found.update(dict.fromkeys(waiting))
    every = list(found)
    return every[:MOST_TASKS], max(0, len(every) - MOST_TASKS)


def _task_name(number: int) -> str:
    return f"t{number}" if number >= 0 else f"f{-number}"


def _task_label(snapshot: Snapshot, task: Task) -> str:
    frame = snapshot.place(task)
    where = f"\n{frame.file.rpartition('/')[2]}:{frame.line} in {frame.function}" if frame is not None else ""
    return f"{task.name}{where}"


def _quote(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def _escape(text: str) -> str:
    for sign, entity in (("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("|", "#124;")):
        text = text.replace(sign, entity)
    return text.replace("\n", "<br/>")
