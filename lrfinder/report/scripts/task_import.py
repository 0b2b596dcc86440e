"""How a script imports the task that it trains, by what the task was loaded from."""

import json

from lrfinder.tasks.reference import DEFAULT_FACTORY, TaskReference


def own_import(source: TaskReference) -> str:
    """Statements that bring in the task's factory."""
    if source.built_in is not None and source.factory == DEFAULT_FACTORY:
        return "import lrfinder"
    own = f"from {source.module} import {source.factory}"
    if source.file is None:
        return own
    folder = json.dumps(str(source.file.parent), ensure_ascii=False)
    if source.is_importable:
        return f"sys.path.insert(0, {folder})\n{own}  # noqa: E402"
    file = json.dumps(f"/{source.file.name}", ensure_ascii=False)
    lines = [
        f"sys.path.append({folder})",
        f'spec = spec_from_file_location("task_file", sys.path[-1] + {file})',
        "module = module_from_spec(spec)",
        "spec.loader.exec_module(module)",
        f"{source.factory} = module.{source.factory}",
    ]
    return "\n".join(lines)


def loaded_by(source: TaskReference) -> str:
    """Expression that makes the task."""
    if source.built_in is not None and source.factory == DEFAULT_FACTORY:
        return f"lrfinder.load_task({json.dumps(source.built_in)})"
    return source.factory if source.is_object else f"{source.factory}()"


def import_order(line: str) -> tuple[bool, str]:
    """Key by which the lines of one block of imports are sorted."""
    return line.startswith("from "), line
