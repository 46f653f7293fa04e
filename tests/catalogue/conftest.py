import shutil

import pytest
import sqlalchemy

from tests import postgres
from worker.catalogue.database import Catalogue

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql"))]


@pytest.fixture(scope="session")
def postgresql():
    if postgres.programs() is None or shutil.which("setpriv") is None:
        pytest.skip(postgres.MISSING)
    with postgres.server() as url:
        yield url


@pytest.fixture(params=BOTH)
def url(request, tmp_path):
    """The address of an empty database, of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'data' / 'catalog.db'}"
        return
    address = request.getfixturevalue("postgresql")
    yield address
    engine = sqlalchemy.create_engine(address)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()


@pytest.fixture
def catalogue(url):
    found = Catalogue(url)
    yield found
    found.close()
