"""Shards from an unreliable web server."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
from http_server import FaultyServer, serve_folder
from refusals import refused

from datamodules.shards import download
from datamodules.shards.cache import ShardCache
from datamodules.shards.download import read_small
from datamodules.shards.manifest import Manifest, Shard
from datamodules.shards.remote import Store, Web, find_source
from datamodules.shards.writer import pack
from datamodules.synthetic import Digits

BUDGET = 10**9


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("packed") / "digits"
    return folder, pack(Digits(size=8), str(folder), 0.5, 0)


@pytest.fixture
def web(packed: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, FaultyServer, Shard]]:
    monkeypatch.setattr(download, "BACKOFF", 0.001)
    with serve_folder(packed[0]) as (address, server):
        yield address, server, packed[1].splits["train"][0]


def cache(address: str, folder: Path, retries: int = 2, budget: int = BUDGET, timeout: float = 5.0) -> ShardCache:
    return ShardCache(find_source(address, timeout), folder, budget, 2, retries)


def test_a_shard_is_downloaded_once(web: tuple[str, FaultyServer, Shard], tmp_path: Path) -> None:
    address, server, shard = web
    first = cache(address, tmp_path).ensure(shard)
    assert cache(address, tmp_path).ensure(shard) == first
    assert server.requests[shard.name] == 1
    assert first.read_bytes() == (server.root / shard.name).read_bytes()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_resumes(web: tuple[str, FaultyServer, Shard], tmp_path: Path, ranges: bool) -> None:
    address, server, shard = web
    server.supports_ranges = ranges
    server.truncations[shard.name] = [1000, 100_000]
    path = cache(address, tmp_path).ensure(shard)
    assert path.read_bytes() == (server.root / shard.name).read_bytes()
    assert server.requests[shard.name] == 3
    again = 0 if ranges else 101_000
    assert server.bytes_sent == shard.bytes + again


def test_transient_failures_are_retried(web: tuple[str, FaultyServer, Shard], tmp_path: Path) -> None:
    address, server, shard = web
    server.status_codes[shard.name] = [503, 429]
    assert cache(address, tmp_path).ensure(shard).is_file()
    server.delays[shard.name] = [0.6]
    assert cache(address, tmp_path / "other", timeout=0.2).ensure(shard).is_file()


@pytest.mark.parametrize(
    ("faults", "code", "requests"),
    [
        ({"status_codes": [404]}, "shards.unreachable", 1),
        ({"status_codes": [403]}, "shards.unreachable", 1),
        ({"status_codes": [500] * 3}, "shards.unreachable", 3),
        ({"truncations": [10] * 3}, "shards.unreachable", 3),
        ({"replacements": b"garbage" * 100_000}, "shards.too_large", 1),
        ({"replacements": b"garbage"}, "shards.unreachable", 2),
    ],
)
def test_persistent_failures_name_the_address(
    web: tuple[str, FaultyServer, Shard], tmp_path: Path, faults: dict, code: str, requests: int
) -> None:
    address, server, shard = web
    for name, value in faults.items():
        getattr(server, name)[shard.name] = value
    with refused(code) as caught:
        cache(address, tmp_path).ensure(shard)
    assert f"{address}/{shard.name}" in str(caught.value)
    assert server.requests[shard.name] == requests
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".tar", ".part")]


def test_other_content_of_the_same_size_is_refused(web: tuple[str, FaultyServer, Shard], tmp_path: Path) -> None:
    address, server, shard = web
    server.replacements[shard.name] = b"x" * shard.bytes
    with refused("shards.wrong_checksum"):
        cache(address, tmp_path).ensure(shard)
    assert server.requests[shard.name] == 1


def test_parts_of_different_files_are_downloaded_again(web: tuple[str, FaultyServer, Shard], tmp_path: Path) -> None:
    address, server, shard = web
    server.replacements[shard.name] = b"x" * shard.bytes
    server.truncations[shard.name] = [1000]

    class Replaced(Web):
        def open(self, name: str, start: int) -> tuple:
            answer = super().open(name, start)
            server.replacements.clear()  # the file is replaced after the first response
            return answer

    found = ShardCache(Replaced(address, 5.0), tmp_path, BUDGET, 2, 2)
    assert found.ensure(shard).read_bytes() == (server.root / shard.name).read_bytes()


def test_the_least_recently_used_shards_are_deleted(
    web: tuple[str, FaultyServer, Shard], packed: tuple[Path, Manifest], tmp_path: Path
) -> None:
    address, server, _ = web
    shards = [shard for split in packed[1].splits.values() for shard in split]
    budget = 2 * max(shard.bytes for shard in shards) + 1000
    held = cache(address, tmp_path, budget=budget)
    first = held.open(shards[0])
    for shard in shards[1:]:
        held.ensure(shard)
        assert sum(path.stat().st_size for path in tmp_path.glob("*.tar")) <= budget
    assert not (tmp_path / f"{shards[0].sha256}.tar").exists()
    assert first.item(0), "an open shard can still be read"
    assert len(held.opened) == 1
    held.opened.clear()
    held.open(shards[0])
    assert server.requests[shards[0].name] == 2


def test_a_damaged_cache_is_repaired(web: tuple[str, FaultyServer, Shard], tmp_path: Path) -> None:
    address, server, shard = web
    path = cache(address, tmp_path).ensure(shard)
    path.write_bytes(b"damaged")
    cache(address, tmp_path).open(shard)
    assert path.read_bytes() == (server.root / shard.name).read_bytes()


def fetch_all(address: str, folder: Path, shards: list[Shard]) -> None:
    held = cache(address, folder)
    for shard in shards:
        held.open(shard)


def test_several_processes_download_each_shard_once(
    web: tuple[str, FaultyServer, Shard], packed: tuple[Path, Manifest], tmp_path: Path
) -> None:
    address, server, _ = web
    shards = packed[1].splits["train"]
    kind = multiprocessing.get_context("fork")
    with kind.Pool(3) as pool:
        pool.starmap(fetch_all, [(address, tmp_path, shards)] * 3)
    assert {server.requests[shard.name] for shard in shards} == {1}


def test_a_manifest_that_is_cut_or_too_large(web: tuple[str, FaultyServer, Shard]) -> None:
    address, server, _ = web
    server.truncations["manifest.json"] = [100]
    whole = read_small(find_source(address, 5.0), "manifest.json", 10**6, 2)
    assert whole == (server.root / "manifest.json").read_bytes()
    with refused("shards.too_large"):
        read_small(find_source(address, 5.0), "manifest.json", 100, 2)


def test_an_object_store(packed: tuple[Path, Manifest], tmp_path: Path) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    for path in packed[0].iterdir():
        files.pipe(f"/bucket/digits/{path.name}", path.read_bytes())
    shard = packed[1].splits["train"][0]
    held = cache("memory://bucket/digits", tmp_path)
    assert held.ensure(shard).read_bytes() == (packed[0] / shard.name).read_bytes()
    files.rm(f"/bucket/digits/{shard.name}")
    with refused("shards.unreachable"):
        cache("memory://bucket/digits", tmp_path / "other").ensure(shard)


def test_a_store_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(scheme: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with refused("shards.missing_package"):
        Store("s3://bucket/data")


@pytest.mark.parametrize(
    "root",
    [
        "pipe:touch MARK",
        "pipe:touch MARK; curl http://127.0.0.1/",
        "simplecache::http://127.0.0.1/x",
        "git://MARK",
        "ssh://-oProxyCommand=touch MARK/",
        "gopher://127.0.0.1",
    ],
)
def test_only_known_schemes_are_opened(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with refused("shards.scheme"):
        find_source(root, 1.0)
    assert not list(tmp_path.iterdir())


def test_a_redirect_leads_to_the_web_only(tmp_path: Path, web: tuple[str, FaultyServer, Shard]) -> None:
    (tmp_path / "secret").write_text("x")
    source = Web(web[0], 5.0)
    opener = source.opener()
    for address in (f"file://{tmp_path}/secret", "ftp://127.0.0.1/x", "data:,x"):
        with pytest.raises(URLError):
            opener.open(address, timeout=1.0)
