"""`speechgru serve`: models for Home Assistant, browsers and programs on the network."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli.completion import complete_model
from speechgru.cli.help import examples
from speechgru.cli.interrupts import ends_on_sigterm, leave_on_hang_up
from speechgru.cli.options import check_out_dir
from speechgru.cli.stream_options import check_partner
from speechgru.cli.terminal import err
from speechgru.errors import InterruptedRunError, UsageError

if TYPE_CHECKING:
    from speechgru.serve.access import Address
    from speechgru.serve.own_words.places import Places
    from speechgru.serve.processes import Place
    from speechgru.serve.server import ServerOptions


RUNS, RECIPE = Path("runs"), "my-words"
#: Files that a server has open besides its clients' sockets.
_OWN_FILES = 64
ACCESS, OWN_WORDS = "Access", "Your own words, on the page"


@examples(
    "speechgru serve",
    "speechgru serve kitchen=runs/mine commands-12 --port 8080",
    "speechgru serve --wyoming 0.0.0.0:10400 --port 10401",
    "speechgru serve --processes 4 --max-clients 500",
    "speechgru serve --host 0.0.0.0 --token-file token --tls-self-signed tls/",
    "speechgru serve --data my-words --caught caught",
)
def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Model files, run directories or names of bundled models; NAME=MODEL gives "
            "a model another name. [default: commands-12, which is bundled]",
            autocompletion=complete_model,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="Address to listen on. Any but loopback needs --token-file.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65_535, metavar="PORT", help="Port to listen on; 0: a free one."),
    ] = 10_400,
    wyoming: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Answer Wyoming on this port too. The protocol has no token: whoever reaches "
            "the port can use it. On loopback, --port answers Wyoming anyway.",
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            metavar="N",
            help="Processes that share the clients, for more streams than one core can handle.",
        ),
    ] = 1,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Allow the page to record words into this directory, and to train on it. "
            "[default: the page writes no files]",
            rich_help_panel=OWN_WORDS,
        ),
    ] = None,
    caught: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Let the page sort the clips in this directory into --data: what "
            "`listen --save-dir DIR` saved, or the page itself.",
            rich_help_panel=OWN_WORDS,
        ),
    ] = None,
    runs: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Directory for the runs that the page trains.",
            rich_help_panel=OWN_WORDS,
        ),
    ] = RUNS,
    recipe: Annotated[
        str,
        typer.Option(
            metavar="RECIPE",
            help="Recipe to train with: its name or file.",
            rich_help_panel=OWN_WORDS,
        ),
    ] = RECIPE,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Require the token in this file; a new one is written if there is none.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Accept requests from pages of this site; repeatable.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Serve https with this certificate.", rich_help_panel=ACCESS
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Key of the certificate.", rich_help_panel=ACCESS),
    ] = None,
    tls_self_signed: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Serve https with a self-signed certificate, created in this directory.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    max_clients: Annotated[
        int,
        typer.Option(
            min=1,
            max=100_000,
            metavar="N",
            help="Clients connected at once, to each process.",
            rich_help_panel=ACCESS,
        ),
    ] = 256,
    idle_timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Disconnect clients that send no audio for this long. Wyoming clients that have "
            "sent some may pause for at least an hour.",
            rich_help_panel=ACCESS,
        ),
    ] = 60.0,
) -> None:
    """Serve models to Home Assistant (Wyoming), programs (WebSocket) and browsers (a page at /)."""
    with ends_on_sigterm():
        import asyncio
        from dataclasses import replace

        from speechgru.serve.access import own_address
        from speechgru.serve.limits import Limits
        from speechgru.serve.memory import keep_objects
        from speechgru.serve.models import model_names, open_models
        from speechgru.serve.service import Service
        from speechgru.serve.sockets import allow_open_files

        options = _options(
            (host, port), wyoming, token_file, origin or [], (tls_cert, tls_key, tls_self_signed)
        )
        options = replace(options, places=_places(data, caught, runs, recipe))
        place = _fork(options, processes) if processes > 1 else None
        if place is not None:
            options = replace(options, place=place)
        opened = open_models(models or [])
        limits = Limits(clients=max_clients, idle_s=idle_timeout)
        service = Service(opened, limits, tell=err.line)

        from speechgru.serve.server import Server

        def started(address: "Address", wyoming: "list[Address]") -> None:
            keep_objects()
            if place is not None:
                if not place.is_first:
                    return
                place.ready()
            scheme = "https" if options.certificate else "http"
            err.line(f"serving {model_names(opened.values())} on {scheme}://{address}/")
            if address.host in ("0.0.0.0", "::"):
                err.line(f"from other devices: {scheme}://{own_address(address.port)}/")
            for other in wyoming:
                err.line(f"Wyoming on tcp://{other}")
            if options.places is not None:
                err.line(f"the page may record into {options.places.data}")
            if options.access.token is not None and token_file is not None:
                err.line(f"clients need the token in {token_file}")

        files = allow_open_files(max_clients + _OWN_FILES)
        if files < max_clients + _OWN_FILES and (place is None or place.is_first):
            err.line(
                f"--max-clients {max_clients}: this process may open only {files} files, enough "
                f"for about {max(1, files - _OWN_FILES)} clients"
            )
        server = Server(service, options, started)
        asyncio.run(server.serve())
        if server.stopped_by == signal.SIGINT:
            raise typer.Exit(InterruptedRunError.exit_code)


def _fork(options: "ServerOptions", processes: int) -> "Place":
    """Become one of several processes; the process that started them ends here, after them."""
    from speechgru.serve.sockets import listeners

    if options.places is not None:
        raise UsageError("--data: the page records and trains with one process only")
    own = listeners(options.address, options.wyoming, processes)
    from speechgru.serve.processes import fork

    place = fork(own)
    if isinstance(place, int):
        raise typer.Exit(place)
    leave_on_hang_up()
    return place


def _options(
    address: tuple[str, int],
    wyoming: str | None,
    token_file: Path | None,
    origins: list[str],
    tls: tuple[Path | None, Path | None, Path | None],
) -> "ServerOptions":
    from speechgru.serve.access import Access, Address, is_loopback, read_token, site_origin
    from speechgru.serve.server import ServerOptions
    from speechgru.serve.tls import Certificate, self_signed

    host, port = address[0].strip("[]"), address[1]  # a URL has IPv6 in brackets
    certificate_file, key_file, folder = tls
    if (certificate_file is None) != (key_file is None):
        raise UsageError("--tls-cert and --tls-key: both are needed")
    if certificate_file is not None and folder is not None:
        raise UsageError("--tls-self-signed: not together with --tls-cert")
    if token_file is None and not is_loopback(host):
        raise UsageError(
            f"--host {host}: others can reach it, so --token-file FILE is needed; a token is "
            "written there if the file is missing"
        )
    token = read_token(token_file) if token_file is not None else None
    certificate = None
    if certificate_file is not None and key_file is not None:
        certificate = Certificate(certificate_file, key_file)
        certificate.check()
        if certificate.expired is not None:
            err.line(
                f"{certificate_file}: expired on {certificate.expired:%Y-%m-%d}; browsers and "
                "other clients will refuse it"
            )
    elif folder is not None:
        certificate = self_signed(folder, host)
    elif not is_loopback(host) and sys.stderr.isatty():
        err.line("without TLS, browsers give pages from other machines no access to the microphone")
    return ServerOptions(
        Address(host, port),
        Access(token, frozenset(map(site_origin, origins))),
        _wyoming(wyoming),
        certificate,
    )


def _places(data: Path | None, caught: Path | None, runs: Path, recipe: str) -> "Places | None":
    from speechgru.serve.own_words.places import Places
    from speechgru.training.recipe_files import find_recipe

    check_partner("--data", data is not None, recipe=recipe != RECIPE, runs=runs != RUNS)
    if data is None:
        if caught is not None:
            raise UsageError("--caught: needs --data DIR, to sort the clips into")
        return None
    find_recipe(recipe)
    places = Places(data, caught, runs, recipe)
    places.check()
    # Without --runs nothing need ever be trained.
    for option, path in (("--data", data), ("--caught", caught), ("--runs", runs)):
        if path is not None and path != RUNS:
            check_out_dir(path, option)
    return places


def _wyoming(text: str | None) -> "Address | None":
    from speechgru.serve.access import Address

    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:
        raise UsageError(f"--wyoming {text}: [HOST:]PORT is needed")
    return Address(host.strip("[]") or "127.0.0.1", int(port))
