"""Are the files of a TLS section of any use? Opens them, as `load` alone may."""

import ssl
from collections.abc import Iterator
from pathlib import Path

from proxy.config.listening import ClientTls
from proxy.config.topology import ServerTls


def find_unusable(tls: ClientTls | ServerTls) -> Iterator[tuple[str, str]]:
    """Keys of the section whose files are no use, with what is wrong and what would be right.

    Files that are not there are not spoken of.
    """
    if tls.mode == "disable":
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.cert is not None and tls.key is not None:
        try:
            # The empty passphrase keeps OpenSSL from asking for one at the terminal.
            context.load_cert_chain(tls.cert, tls.key, password="")
        except FileNotFoundError:
            pass
        except OSError as useless:
            yield (
                "cert",
                f"no use with {tls.key} ({_reason_of(useless)}); name PEM files of a certificate "
                "and of its own key, without a passphrase",
            )
    if tls.ca is not None and not _is_authority(context, tls.ca):
        yield "ca", f"{tls.ca} holds no certificate; name a PEM file of authorities"


def _is_authority(context: ssl.SSLContext, file: Path) -> bool:
    try:
        context.load_verify_locations(file)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _reason_of(useless: OSError) -> str:
    if isinstance(useless, ssl.SSLError) and useless.reason:
        return useless.reason.replace("_", " ").lower()
    return useless.strerror or str(useless)
