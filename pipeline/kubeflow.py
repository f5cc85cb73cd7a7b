"""``tlkeras kubeflow``: the same steps as a pipeline file of Kubeflow Pipelines.

Every step becomes a component, one container each. The step's signature gives its inputs: folders
of products and texts of config fields. A component writes its product into the store at ``root``,
or reuses it, and passes its folder on. So every container needs the store under the same path: on a
mounted volume claim, or in a bucket mounted as a folder.

The components are KFP's *lightweight Python components*, the only kind that KFP also runs without
containers. Each is one call of `make`.
"""

from __future__ import annotations

import functools
import inspect
import re
import runpy
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pipeline import flags, option, store
from pipeline.config import Config
from pipeline.order import STEPS
from pipeline.step import Step
from tlkeras import hardware, spec
from tlkeras.spec import Spec

_COMPONENT = '''\
def {function}({parameters}) -> str:
    """{about}"""
    texts = dict(locals())
    from pipeline import kubeflow

    return kubeflow.make({name!r}, texts)
'''


class Target(Spec, name="target"):
    """Compiles the pipeline for Kubeflow Pipelines: a component for every step."""

    out: Annotated[Path, "The pipeline file to write, a .yaml."]
    image: Annotated[str, "The container image of every step: this project and its extra kubeflow."]
    volume: Annotated[
        str, "CLAIM:/FOLDER, a volume claim to mount; for buckets none is needed."
    ] = ""

    def validate(self):
        self.require(self.out.suffix in (".yaml", ".yml"), "out", "a file ending in .yaml")
        self.require(bool(self.image), "image", "the name of a container image")
        if self.volume:
            claim, _, folder = self.volume.partition(":")
            self.require(bool(claim) and folder.startswith("/"), "volume", "CLAIM:/FOLDER")


def main(target: Target, config: Config) -> int:
    """Writes the pipeline file."""
    for name in ("root", "saved_models", "sign_key"):
        path = getattr(config, name)
        if path and not path.is_absolute():
            raise ValueError(
                f"flag --{name}={path}: containers share no working folder; set an absolute path "
                "that all of them see, on a mounted volume or in a bucket mounted as a folder."
            )
    if re.search(r"(key|secret|token|password|connection_string)\w*[= ]", config.beam_options):
        raise ValueError(
            "flag --beam_options holds a secret, which every reader of the file would see: "
            "omit it here, and set the parameter at the start of the pipeline."
        )
    compile(store.chosen(STEPS, Config, config.to), config, target)
    print(f"Written: {target.out}")
    return 0


def compile(steps: Sequence[Step], config: Config, target: Target) -> None:
    """Writes a pipeline of these steps; the config's fields are its parameters' defaults.

    Raises:
        ValueError: KFP is not installed.
    """
    try:
        import kfp.compiler
        from kfp import dsl, kubernetes
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Compiling for Kubeflow needs the package {error.name}: "
            "pip install 'tlkeras[kubeflow]'."
        ) from None
    components = {step.name: _component(dsl, step, target.image) for step in steps}
    claim, _, folder = target.volume.partition(":")

    def everything(*channels: Any) -> None:
        values = dict(zip(parameters, channels, strict=True))
        for step in steps:
            task = components[step.name](**{name: values[name] for name in ("root", *step.read)})
            # The store reuses products; KFP's cache would ignore the code.
            task.set_caching_options(False)
            if claim:
                kubernetes.mount_pvc(task, pvc_name=claim, mount_path=folder)
            values[step.name] = task.output

    parameters = _parameters(steps, config)
    everything.__signature__ = inspect.Signature(list(parameters.values()))
    everything.__doc__ = _about(parameters)
    plain = re.sub(r"[^a-z0-9]+", "-", config.name.lower()).strip("-")[:128] or "pipeline"
    graph = dsl.pipeline(name=plain)(everything)  # KFP allows no other characters.
    target.out.parent.mkdir(parents=True, exist_ok=True)
    kfp.compiler.Compiler().compile(graph, str(target.out))


def make(name: str, texts: Mapping[str, str]) -> str:
    """Returns the folder of a product in the store; runs its step if needed.

    Every component is a call of this function.

    Args:
        name: The product.
        texts: ``root``, and the folder or the flag's text of every parameter of its step.
    """
    step = next(step for step in STEPS if step.name == name)
    fields, inputs = flags.step_values(step, texts, Config)
    products = store.Store(Path(texts["root"]))
    with hardware.used("auto"):
        say = functools.partial(print, f"{name}  ", flush=True)
        return str(products.make(step, fields, inputs, say))


def _parameters(steps: Sequence[Step], config: Config) -> dict[str, inspect.Parameter]:
    """Returns the pipeline's parameters: ``root`` and every config field that a step reads."""
    read = flags.read_by(steps)
    return {
        name: inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=option.written(getattr(config, name)),
            annotation=str,
        )
        for name in spec.fields(Config)
        if name in read
    }


def _about(parameters: Mapping[str, inspect.Parameter]) -> str:
    """Returns a docstring; KFP reads the descriptions of the parameters from it."""
    helps = {name: spec.fields(Config)[name].__metadata__[0] for name in parameters}
    lines = [f"  {name}: {text}" for name, text in helps.items()]
    return "\n".join(["From a source to a pushed model.", "", "Args:", *lines])


def _component(dsl: Any, step: Step, image: str) -> Any:
    """Returns the component of a step.

    KFP copies the source text of a component's function, with its parameters, into the pipeline
    file. So the function needs a file for the moment.
    """
    function = step.module.rpartition(".")[2]
    source = _COMPONENT.format(
        function=function,
        parameters=", ".join(f"{name}: str" for name in ("root", *step.read)),
        about=(inspect.getdoc(step) or step.name).splitlines()[0],
        name=step.name,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "component.py")
        file.write_text(source, encoding="utf-8")
        loaded = runpy.run_path(str(file))[function]
        return dsl.component(loaded, base_image=image, install_kfp_package=False)


EXAMPLE = (
    "--out=pipeline.yaml --image=REGISTRY/tlkeras:1 --volume=CLAIM:/store "
    "--root=/store/runs --saved_models=/store/models"
)


def command(argv: Sequence[str]) -> NoReturn:
    """Runs ``tlkeras kubeflow``."""
    flags.run(argv, main, Target, Config, example=EXAMPLE)
