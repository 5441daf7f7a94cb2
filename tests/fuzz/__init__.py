"""Everything that reads a peer's bytes, fed with bytes nobody thought of.

`targets` names each reader with its invariant, `strategies` what bytes for it look like. The suite
drives them by hypothesis; `python -m tests.fuzz --seconds N` drives them for as long as one likes.

`CORPUS` keeps bytes worth trying again, a folder for each target: what peers really say, and what
once broke a reader.
"""

from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")

# Their readers are compiled, and what is compiled shows atheris no paths.
COMPILED = frozenset(
    {
        "startup_parameters",
        "cancel_request",
        "parameter_status",
        "backend_key_data",
        "fields",
        "negotiated_version",
        "error_response",
        "packets",
        "typed_messages",
        "client_bytes",
        "server_bytes",
    }
)
