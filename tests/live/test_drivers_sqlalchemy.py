"""SQLAlchemy in transaction mode, with psycopg, psycopg 2 and asyncpg below it."""

import asyncio
import concurrent.futures
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from tests.fixtures.pgweir import Pgweir, running, with_an_older
from tests.fixtures.postgres import APP, DATABASE, Postgres

EACH = {"cluster": "main", "dbname": DATABASE}
DATABASES = {
    "one": {**EACH, "pool_size": 1},
    "two": {**EACH, "pool_size": 2},
    "shared": {**EACH, "pool_size": 2, "share_unnamed": True},
}
DRIVERS = ("psycopg", "psycopg2")


class Base(DeclarativeBase):
    """Tables of these tests."""


class Owner(Base):
    __tablename__ = "sa_owner"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    things: Mapped[list["Thing"]] = relationship(back_populates="owner")


class Thing(Base):
    __tablename__ = "sa_thing"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("sa_owner.id"))
    label: Mapped[str]
    owner: Mapped[Owner] = relationship(back_populates="things")


@pytest.fixture(scope="module")
def weir(
    pg18: Postgres, pg16: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    config = with_an_older(pg18, pg16, DATABASES)
    with running(config, tmp_path_factory.mktemp("sqlalchemy")) as weir:
        yield weir


@pytest.fixture(params=(*DATABASES, "older"))
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def url(weir: Pgweir, driver: str, database: str) -> sa.URL:
    return sa.URL.create(
        f"postgresql+{driver}", APP.name, APP.password, weir.host, weir.port, database
    )


@pytest.fixture(params=DRIVERS)
def engine(request: pytest.FixtureRequest, weir: Pgweir, database: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url(weir, request.param, database), pool_size=5, max_overflow=0)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


def test_objects_are_stored_and_loaded(engine: sa.Engine) -> None:
    with Session(engine) as session:
        owner = Owner(name="ä", things=[Thing(label=f"thing {n}") for n in range(20)])
        session.add(owner)
        session.commit()
        key = owner.id
    with Session(engine) as session:
        found = session.get_one(Owner, key)
        assert [thing.label for thing in found.things] == [f"thing {n}" for n in range(20)]


def test_many_sessions_at_the_same_time_see_their_own(engine: sa.Engine) -> None:
    def work(number: int) -> list[str]:
        with Session(engine) as session:
            owner = Owner(name=f"owner {number}")
            session.add(owner)
            session.flush()
            for n in range(5):
                session.add(Thing(owner_id=owner.id, label=f"{number}/{n}"))
                session.flush()
            found = session.scalars(
                sa.select(Thing.label).where(Thing.owner_id == owner.id).order_by(Thing.id)
            ).all()
            if number % 3 == 0:
                session.rollback()
            else:
                session.commit()
            return list(found)

    with concurrent.futures.ThreadPoolExecutor(5) as threads:
        found = list(threads.map(work, range(30)))
    assert found == [[f"{number}/{n}" for n in range(5)] for number in range(30)]
    with Session(engine) as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Owner)) == 20


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"])
def test_isolation_level_of_a_connection(engine: sa.Engine, level: str) -> None:
    with engine.connect().execution_options(isolation_level=level) as connection:
        shown = connection.execute(sa.text("SHOW transaction_isolation")).scalar()
        assert str(shown).upper() == level
    with engine.connect() as connection:
        assert (
            connection.execute(sa.text("SHOW transaction_isolation")).scalar() == "read committed"
        )


def test_isolation_level_of_an_engine(weir: Pgweir, database: str) -> None:
    strict = sa.create_engine(url(weir, "psycopg", database), isolation_level="SERIALIZABLE")
    plain = sa.create_engine(url(weir, "psycopg", database))
    try:
        for _ in range(3):
            for engine, level in ((strict, "serializable"), (plain, "read committed")):
                with engine.connect() as connection:
                    assert (
                        connection.execute(sa.text("SHOW transaction_isolation")).scalar() == level
                    )
    finally:
        strict.dispose()
        plain.dispose()


def test_autocommit(engine: sa.Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.insert(Owner), [{"name": "at once"}])
        with engine.connect() as other:
            assert other.execute(sa.select(Owner.name)).scalars().all() == ["at once"]


def test_many_rows_in_one_insert(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        result = connection.execute(
            sa.insert(Owner).returning(Owner.id), [{"name": f"n{n}"} for n in range(3000)]
        )
        assert len(result.scalars().all()) == 3000


def test_savepoints(engine: sa.Engine) -> None:
    with Session(engine) as session:
        session.add(Owner(id=1, name="first"))
        session.flush()
        with pytest.raises(sa.exc.IntegrityError), session.begin_nested():
            session.add(Owner(id=1, name="again"))
            session.flush()
        session.add(Owner(id=2, name="second"))
        session.commit()
        assert session.scalars(sa.select(Owner.id).order_by(Owner.id)).all() == [1, 2]


def test_an_error_ends_its_transaction_and_no_more(engine: sa.Engine) -> None:
    for _ in range(10):
        with pytest.raises(sa.exc.ProgrammingError), engine.begin() as connection:
            connection.execute(sa.text("SELECT * FROM nowhere"))
        with engine.begin() as connection:
            assert connection.execute(sa.text("SELECT 1")).scalar() == 1


def test_rows_are_streamed(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        result = connection.execution_options(yield_per=100).execute(
            sa.text("SELECT generate_series(1, 5000)")
        )
        assert result.scalars().all() == list(range(1, 5001))


def test_tables_are_reflected(engine: sa.Engine) -> None:
    columns = {column["name"] for column in sa.inspect(engine).get_columns("sa_thing")}
    assert columns == {"id", "owner_id", "label"}


def test_pre_ping_notices_nothing_wrong(weir: Pgweir, database: str) -> None:
    engine = sa.create_engine(url(weir, "psycopg", database), pool_pre_ping=True, pool_size=2)
    try:
        for _ in range(10):
            with engine.connect() as connection:
                assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    finally:
        engine.dispose()


async def test_asyncpg_below(weir: Pgweir, database: str) -> None:
    engine = create_async_engine(url(weir, "asyncpg", database), pool_size=5, max_overflow=0)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)

        async def work(number: int) -> list[Any]:
            async with engine.begin() as connection:
                inserted = await connection.execute(
                    sa.insert(Owner).values(name=f"owner {number}").returning(Owner.id)
                )
                key = inserted.scalar_one()
                found = await connection.execute(sa.select(Owner.name).where(Owner.id == key))
                return list(found.scalars())

        found = await asyncio.gather(*(work(number) for number in range(40)))
        assert found == [[f"owner {number}"] for number in range(40)]
        async with engine.connect() as connection:
            serializable = await connection.execution_options(isolation_level="SERIALIZABLE")
            shown = await serializable.execute(sa.text("SHOW transaction_isolation"))
            assert shown.scalar() == "serializable"
        async with engine.connect() as connection:
            streamed = await connection.stream(sa.text("SELECT generate_series(1, 1000)"))
            assert [row[0] async for row in streamed] == list(range(1, 1001))
        with pytest.raises(sa.exc.ProgrammingError):
            async with engine.begin() as connection:
                await connection.execute(sa.text("SELECT * FROM nowhere"))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
    finally:
        await engine.dispose()
