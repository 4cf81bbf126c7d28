"The desk's settings: what is shipped, every mistake in one line, secrets never shown, nothing read by accident."

import subprocess
import sys
from contextlib import chdir
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydantic import ValidationError

from mlt_lib import settings as room
from mlt_lib.errors import MltError, SettingsError
from mlt_lib.settings import SECTIONS, Execution, Settings, asset, broker_credentials

ROOT = Path(__file__).parents[1]
PAPER = {"MLT_EXECUTION_BROKER": "paper", "MLT_EXECUTION_REST_URL": "https://paper-api.alpaca.markets"}


@pytest.fixture
def read(tmp_path):
    "Reads a settings file with the given text and variables."

    def read(text="[risk]\n", **environment):
        (tmp_path / "settings.ini").write_text(text, encoding="utf-8")
        with chdir(tmp_path):
            return Settings.read(tmp_path / "settings.ini", environment)

    return read


def complaints(read, text="[risk]\n", **environment):
    "The lines of the error that a text earns."
    with pytest.raises(SettingsError) as caught:
        read(text, **environment)
    return str(caught.value).splitlines()


# What is shipped


def test_the_shipped_file_says_what_the_code_says():
    shipped = Settings.read(ROOT / "settings.ini", {})
    assert shipped.values() == Settings(path=ROOT, root=ROOT).values()


def test_the_shipped_file_holds_every_key_with_a_comment():
    lines = (ROOT / "settings.ini").read_text().splitlines()
    keys = [line for line in lines if line and line[0] not in ";["]
    assert len(keys) == sum(len(section.model_fields) for section in SECTIONS.values())
    assert [line for line in keys if "  ; " not in line] == []


def test_every_value_written_out_reads_back_the_same(read):
    first = read(
        "[risk]\nnear_share = 0.7\n[universe]\nsymbols = A, B\nfirst_session = 2001-02-28\n[schedule]\nrun_time=05:00"
    )
    text = "\n".join(
        f"[{name}]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items())
        for name, keys in first.values().items()
    )
    again = read(text)
    assert again == first and again.digest == first.digest


def test_the_sleeves_named_here_are_those_there_are():
    ensemble = pytest.importorskip("mlt_lib.strategies.ensemble", reason="the strategies are not built yet")
    with pytest.raises(ValidationError) as caught:
        SECTIONS["strategy"](sleeves="nothing")
    assert f"allowed: {', '.join(ensemble.SLEEVES)}" in str(caught.value)


# One line for each mistake

SHARE = "must be a share of equity (1 is 100 %), above 0 and at most 1"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[risk]\nmax_gros_share = 1", "settings.ini: [risk] max_gros_share: no such key; did you mean max_gross_share?"),
        ("[risk]\nmax_name_share = -0.2", f"settings.ini: [risk] max_name_share = -0.2: {SHARE}."),
        ("[risk]\nmax_name_share = 0", f"settings.ini: [risk] max_name_share = 0: {SHARE}."),
        ("[risk]\nmax_name_share = 15", f"settings.ini: [risk] max_name_share = 15: {SHARE}; write 0.15 for 15 %."),
        ("[risk]\nmax_name_share = 15%", f"settings.ini: [risk] max_name_share = 15%: {SHARE}; write 0.15 for 15 %."),
        ("[risk]\nmax_name_share = nan", f"settings.ini: [risk] max_name_share = nan: {SHARE}."),
        ("[risk]\nmax_name_share = much", f"settings.ini: [risk] max_name_share = much: {SHARE}."),
        ("[risk]\nmax_name_share =", f"settings.ini: [risk] max_name_share is empty: {SHARE}."),
        (
            "[risk]\nmax_gross_share = 105",
            "settings.ini: [risk] max_gross_share = 105: must be a share of equity (1 is 100 %), above 0 and at most 4; "
            "write 1.05 for 105 %.",
        ),
        ("[strategy]\nname = magic", "settings.ini: [strategy] name = magic: is unknown; allowed: ensemble."),
        (
            "[strategy]\nsleeves = momentun",
            "settings.ini: [strategy] sleeves = momentun: momentun is unknown; allowed: momentum, low_volatility, ipca; "
            "did you mean momentum?",
        ),
        (
            "[strategy]\ndecide = hourly",
            "settings.ini: [strategy] decide = hourly: is unknown; allowed: daily, weekly, monthly.",
        ),
        (
            "[strategy]\ncovariance_days = 10.5",
            "settings.ini: [strategy] covariance_days = 10.5: must be a whole number of sessions, from 20 to 2,520.",
        ),
        (
            "[universe]\nfirst_session = 3.1.1990",
            "settings.ini: [universe] first_session = 3.1.1990: must be a date written YYYY-MM-DD, or empty.",
        ),
        (
            "[universe]\nfirst_session = 2022-01-04\nlast_session = 2022-01-03",
            "settings.ini: [universe] last_session = 2022-01-03: must not lie before first_session = 2022-01-04.",
        ),
        ("[data]\nsource = files", "[data] path is empty: must name a file of prices when source = files."),
        (
            "[execution]\nfill = next_open",
            "settings.ini: [execution] fill = next_open: needs opens, and source = sample holds closes only; "
            "write next_close.",
        ),
        (
            "[execution]\nmax_order_usd = 50",
            "settings.ini: [execution] max_order_usd = 50: must not lie below [portfolio] min_order_usd.",
        ),
        (
            "[execution]\nsubmit_live = perhaps",
            "settings.ini: [execution] submit_live = perhaps: must be yes or no.",
        ),
        (
            "[execution]\nexchange_port = 70000",
            "settings.ini: [execution] exchange_port = 70000: must be a port, from 0 to 65,535.",
        ),
        (
            "[execution]\naccount = ../../etc",
            "settings.ini: [execution] account = ../../etc: must be 1 to 32 of a-z, 0-9, - and _.",
        ),
        (
            "[execution]\nrest_url = ftp://there",
            "settings.ini: [execution] rest_url = ftp://there: must be an address http://… or https://….",
        ),
        ("[schedule]\nrun_time = 25:00", "settings.ini: [schedule] run_time = 25:00: must be a time of day written HH:MM, "
         "from 00:00 to 23:59."),
        ("[schedule]\ntimezone = Mars/Olympus", "settings.ini: [schedule] timezone = Mars/Olympus: must be a time zone such "
         "as America/New_York."),
        ("[Risk]\nnear_share = 0.5", "settings.ini: [Risk]: no such section; there are data, sources, retention, universe, "
         "strategy, portfolio, risk, execution, schedule, report; did you mean risk?"),
        ("[DEFAULT]\nlib_name = x", "settings.ini: [DEFAULT]: no such section; there are data, sources, retention, "
         "universe, strategy, portfolio, risk, execution, schedule, report."),
        ("[risk]\nnear_share = 0.5\nnear_share = 0.6", "settings.ini: [risk] near_share stands there twice (line 3); keep one."),
        ("[risk]\n[risk]", "settings.ini: [risk] stands there twice (line 2); keep one."),
        ("near_share = 0.5\n[risk]", "settings.ini: line 1 stands before any [section]."),
        ("[risk]\nnear_share", "settings.ini: can't read line 2; write `key = value`."),
        ("[risk]\nnear_share = 0.5\n  max_name_share = 0.1", "settings.ini: [risk] near_share: runs over several lines; "
         "write it on one, and start each key at the margin."),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_it(read, text, line):
    assert complaints(read, text) == [line]


def test_several_mistakes_are_listed_together(read):
    lines = complaints(read, "[risk]\nnear = 1\nmax_net_share = x\n[dta]\n", MLT_REPORT_TITLE="", MLT_DATA_PATHS="x")
    assert len(lines) == 5
    assert {line.split(":")[0] for line in lines} == {"settings.ini", "MLT_REPORT_TITLE is empty", "MLT_DATA_PATHS"}


def test_no_bound_can_be_lifted_in_the_file(read):
    for key in ("max_gross_share", "max_net_share"):
        assert read(f"[risk]\n{key} = 4").risk.bounds and complaints(read, f"[risk]\n{key} = 4.01")


def test_bytes_that_are_no_text_are_one_line(tmp_path):
    (tmp_path / "settings.ini").write_bytes(b"[risk]\n\xff\xfe")
    with pytest.raises(SettingsError, match="is not text in UTF-8"):
        Settings.find(tmp_path / "settings.ini", {})


@pytest.mark.parametrize("name", ["absent.ini", "."])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name):
    with pytest.raises(SettingsError, match="can't be read"):
        Settings.find(tmp_path / name, {})


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "settings.ini").write_bytes(b"\xef\xbb\xbf[risk]\nnear_share = 0.5\n")
    assert Settings.find(tmp_path / "settings.ini", {}).risk.near_share == 0.5


# The environment


def test_the_environment_stands_above_the_file(read):
    got = read("[risk]\nnear_share = 0.5", MLT_RISK_NEAR_SHARE=" 0.6 ", MLT_EXECUTION_REST_URL="http://127.0.0.1:8000")
    assert (got.risk.near_share, got.execution.rest_url) == (0.6, "http://127.0.0.1:8000")


def test_variables_of_other_rooms_are_left_alone(read):
    names = ["MLT_SETTINGS", "MLT_TEST_DATA", "MLT_RUN_ID", "MLT_BROKER_KEY", "MLT_CRASH_AT", "MLT_ELSEWHERE", "PATH"]
    assert read(**dict.fromkeys(names, "x")).risk.near_share == 0.8


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("MLT_RISK_NEARSHARE", "MLT_RISK_NEARSHARE: no such key; did you mean near_share?"),
        ("MLT_RSK_NEAR_SHARE", "MLT_RSK_NEAR_SHARE: no such variable; did you mean MLT_RISK_NEAR_SHARE?"),
        ("MLT_DATABASE_URL", "MLT_DATABASE_URL: no such variable; did you mean MLT_DATA_DATABASE_URL?"),
    ],
)
def test_an_unknown_variable_is_refused(read, name, line):
    assert complaints(read, **{name: "0.5"}) == [line]


# Secrets


@pytest.mark.parametrize("key", ["api_key", "secret", "token", "db_password", "passwd", "credentials"])
def test_a_secret_in_the_file_is_refused_without_showing_it(read, key):
    (line,) = complaints(read, f"[execution]\n{key} = hunter2")
    assert "secrets never stand in the file" in line and "hunter2" not in line


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("database_url", "postgresql://desk:hunter2@db/desk"),
        ("database_url", "postgresql://desk:hun/ter2@hunter2@db/desk"),
        ("database_url", "postgresql://db/desk?user=a&password=hunter2"),
    ],
)
def test_a_password_in_an_address_comes_from_the_environment_alone(read, key, url):
    (line,) = complaints(read, f"[data]\n{key} = {url}")
    assert "holds a password" in line and "hunter2" not in line
    got = read(MLT_DATA_DATABASE_URL=url)
    assert got.database_url == url
    for shown in (repr(got), str(got), got._repr_html_(), str(got.values()), repr(got.data)):
        assert "hunter2" not in shown and "ter2" not in shown
    assert got.digest == read(MLT_DATA_DATABASE_URL=url.replace("hunter2", "other").replace("hun/ter2", "x")).digest


def test_an_invalid_address_is_masked_in_its_complaint(read):
    (line,) = complaints(read, MLT_EXECUTION_REST_URL="https://me:hunter2@there")
    assert "hunter2" not in line


def test_the_simulated_broker_needs_no_credentials(read):
    assert broker_credentials(read(), {}).key.get_secret_value() == "simulated"


def test_credentials_come_from_the_environment_or_a_mounted_file(read, tmp_path):
    paper = read(**PAPER)
    (tmp_path / "secret").write_text("s3cret\n")
    found = broker_credentials(paper, {"MLT_BROKER_KEY": "PK1", "MLT_BROKER_SECRET_FILE": str(tmp_path / "secret")})
    assert (found.key.get_secret_value(), found.secret.get_secret_value()) == ("PK1", "s3cret")
    assert "s3cret" not in repr(found) + str(found) and "PK1" not in repr(found) + str(found)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "MLT_BROKER_KEY: set it, or MLT_BROKER_KEY_FILE"),
        ({"MLT_BROKER_KEY": "a"}, "MLT_BROKER_SECRET: set it"),
        ({"MLT_BROKER_KEY": "a", "MLT_BROKER_KEY_FILE": "b"}, "one of the two"),
        ({"MLT_BROKER_KEY_FILE": "absent"}, "MLT_BROKER_KEY_FILE = absent: can't be read"),
        ({"MLT_BROKER_KEY": "hunter2 hunter2"}, "must be one word without blanks"),
        ({"MLT_BROKER_KEY": "hunter2\r\nX-Other: 1"}, "must be one word without blanks"),
    ],
)
def test_wanting_credentials_are_one_line_without_the_value(read, environment, words):
    with pytest.raises(SettingsError, match=words) as caught:
        broker_credentials(read(**PAPER), environment)
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)


# Real money


def test_submitting_is_off_for_anything_but_the_simulated_exchange(read):
    assert read().execution.submit
    assert not read(**PAPER).execution.submit
    assert read(**PAPER, MLT_EXECUTION_SUBMIT_PAPER="yes").execution.submit
    live = {"MLT_EXECUTION_BROKER": "live", "MLT_EXECUTION_REST_URL": "https://api.alpaca.markets"}
    assert not read(**live, MLT_EXECUTION_SUBMIT_PAPER="yes").execution.submit


@pytest.mark.parametrize(
    ("broker", "url", "words"),
    [
        ("paper", "", "must name the broker's address when broker = paper"),
        ("paper", "https://api.alpaca.markets", "is the address for real money while broker = paper"),
        ("paper", "https://API.Alpaca.markets/v2", "is the address for real money while broker = paper"),
        ("live", "https://paper-api.alpaca.markets", "is the address for paper accounts while broker = live"),
        ("live", "http://broker.example", "must be https://"),
        ("paper", "http://10.0.0.7:80", "must be https://"),
    ],
)
def test_keys_do_not_go_to_the_wrong_address(read, broker, url, words):
    (line,) = complaints(read, MLT_EXECUTION_BROKER=broker, MLT_EXECUTION_REST_URL=url)
    assert words in line


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"])
def test_this_machine_may_be_spoken_to_in_the_clear(read, url):
    assert read(MLT_EXECUTION_BROKER="paper", MLT_EXECUTION_REST_URL=url).execution.rest_url == url


# The record


def test_the_record_is_frozen_and_knows_its_kinds(read):
    got = read("[universe]\nfirst_session = 2000-01-03\nsymbols = KO, XOM\n[execution]\nmax_order_usd = 1_000.50")
    assert (got.universe.first_session, got.universe.symbols) == (date(2000, 1, 3), ("KO", "XOM"))
    assert got.execution.max_order_usd == Decimal("1000.50")
    with pytest.raises(ValidationError):
        got.risk.near_share = 0.1
    with pytest.raises(ValidationError):
        got.risk = got.risk
    with pytest.raises(ValidationError):
        Execution(brocker="paper")


def test_the_limits_carry_the_desks_names_and_values(read):
    bounds = read("[risk]\nmax_gross_share = 2").risk.bounds
    assert bounds["gross exposure"] == 2.0 and len(bounds) == 6 and min(bounds.values()) > 0


def test_the_digest_is_of_values_not_of_writing(read):
    plain = read("[risk]\nnear_share = 0.8\n[portfolio]\nmin_order_usd = 1000").digest
    assert plain == read("[portfolio]\nmin_order_usd = 1e3 ; a note\n[risk]\nnear_share = .80").digest
    assert plain == read(MLT_RISK_NEAR_SHARE="0.8").digest
    assert plain != read(MLT_RISK_NEAR_SHARE="0.81").digest
    assert len(plain) == 64


def test_the_digest_moves_with_each_key(read):
    other = {
        "data.source": None, "data.path": "x.csv", "data.database_url": "sqlite:///x.db", "universe.symbols": "A",
        "universe.first_session": "2000-01-03", "universe.last_session": "2000-01-03", "strategy.name": None,
        "strategy.sleeves": "momentum", "strategy.decide": "daily", "execution.broker": None, "execution.fill": None,
        "execution.submit_simulated": "no", "execution.submit_paper": "yes", "execution.submit_live": "yes",
        "execution.account": "x", "execution.rest_url": "http://x", "execution.stream_url": "ws://x",
        "execution.data_url": "http://x", "schedule.timezone": "UTC", "schedule.run_time": "01:02", "report.title": "x",
        "report.track_record_start": "2000-01-03", "execution.exchange_port": "99", "strategy.covariance_days": "99",
        "data.known_delay_minutes": "99", "portfolio.max_weight_share": "0.16", "execution.max_order_usd": "9999", "execution.request_timeout_seconds": "99",
        "data.columns": "close: C", "sources.texts": "reddit", "sources.history_start": "2000-01-03", "sources.alpaca_feed": "sip",
        "sources.newsapi_query": "x", "sources.reddit_subreddits": "x",
        **{f"sources.{s}_url": "http://x" for s in ("alpaca", "yahoo", "newsapi", "reddit")},
        **{f"sources.{s}_per_minute": "99" for s in ("alpaca", "yahoo", "newsapi", "reddit")},
        "sources.attempts": "9", "retention.refresh_days": "9",
        **{f"retention.{s}_days": "99" for s in ("minute_bars", "quotes", "news", "posts", "features")},
    }  # fmt: skip
    digests = {read().digest}
    for section, kind in SECTIONS.items():
        for key in kind.model_fields:
            if value := other.get(f"{section}.{key}", "0.33"):
                digests.add(read(**{f"MLT_{section}_{key}".upper(): value}).digest)
    assert len(digests) == 1 + sum(len(s.model_fields) for s in SECTIONS.values()) - 4


def test_the_page_of_settings_escapes_what_was_written(read):
    assert "<script>" not in read("[report]\ntitle = <script>alert(1)</script>")._repr_html_()


# Where the file is found


def test_find_goes_by_name_then_variable_then_upward_then_the_default(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for place, near in (("a", 0.3), (".", 0.4)):
        (tmp_path / place / "settings.ini").write_text(f"[risk]\nnear_share = {near}\n")
    named = tmp_path / "mine.ini"
    named.write_text("[risk]\nnear_share = 0.1\n")
    with chdir(deep):
        assert Settings.find("../../mine.ini", {"MLT_SETTINGS": "../settings.ini"}).risk.near_share == 0.1
        assert Settings.find(environment={"MLT_SETTINGS": "../../settings.ini"}).risk.near_share == 0.4
        found = Settings.find(environment={})
    assert (found.risk.near_share, found.root, found.state) == (0.3, tmp_path / "a", tmp_path / "a" / ".mlt")


def test_another_tools_settings_are_passed_over(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "settings.ini").write_bytes(b"[DEFAULT]\nlib_name = other\nauthor = Andr\xe9\n")
    (tmp_path / "settings.ini").write_text("[risk]\nnear_share = 0.4\n")
    with chdir(inner):
        assert Settings.find(environment={}).risk.near_share == 0.4


def test_without_a_file_the_packaged_default_holds_here(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_upward", lambda folder: None)
    with chdir(tmp_path):
        got = Settings.find(environment={})
    assert got.root == tmp_path and got.path == asset("settings.ini")


def test_an_absent_named_file_is_refused_not_replaced_by_the_default(tmp_path):
    with pytest.raises(SettingsError, match="absent.ini: can't be read"):
        Settings.find(environment={"MLT_SETTINGS": str(tmp_path / "absent.ini")})


def test_find_reads_the_processs_environment_by_default(monkeypatch):
    monkeypatch.setenv("MLT_RISK_NEAR_SHARE", "0.55")
    assert Settings.find(ROOT / "settings.ini").risk.near_share == 0.55


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("sqlite:///.mlt/desk.db", "sqlite:///{root}/.mlt/desk.db"),
        ("sqlite+pysqlite:///x.db?timeout=3", "sqlite+pysqlite:///{root}/x.db?timeout=3"),
        ("sqlite:////var/desk.db", "sqlite:////var/desk.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("postgresql+psycopg://db/desk", "postgresql+psycopg://db/desk"),
    ],
)
def test_a_relative_database_lies_beside_the_file(read, tmp_path, url, resolved):
    assert read(f"[data]\ndatabase_url = {url}").database_url == resolved.format(root=tmp_path)


def test_a_relative_price_file_lies_beside_the_settings(read, tmp_path):
    assert read().prices_path is None
    assert read("[data]\npath = p/x.csv").prices_path == tmp_path / "p" / "x.csv"
    assert read("[data]\npath = /p/x.csv").prices_path == Path("/p/x.csv")


def test_assets_lie_in_the_package_or_in_the_checkout(tmp_path, monkeypatch):
    assert asset("settings.ini") == ROOT / "settings.ini"
    package = tmp_path / "mlt_lib"
    (package / "assets" / "migrations").mkdir(parents=True)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "nbs" / "jobs").mkdir(parents=True)
    monkeypatch.setattr(room.mlt_lib, "__path__", [str(package)])
    assert asset("migrations") == package / "assets" / "migrations"
    assert asset("jobs") == tmp_path / "nbs" / "jobs"
    with pytest.raises(SettingsError, match="install it again"):
        asset("templates")


# Whatever is written

LINE = st.one_of(
    st.sampled_from([f"[{name}]" for name in SECTIONS]),
    st.builds(
        "{} = {}".format, st.sampled_from([k for s in SECTIONS.values() for k in s.model_fields]), st.text(max_size=12)
    ),
    st.text(max_size=30),
)


@effort(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE, max_size=12).map("\n".join))
@example("[risk]\n\0 = 1")
@example("[\n]")
@example("[risk]\n= 1")
@example("[risk]\n  near_share = 1\n x")
def test_whatever_the_file_says_the_answer_is_settings_or_one_clear_error(tmp_path, text):
    path = tmp_path / "settings.ini"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    try:
        got = Settings.read(path, {})
    except MltError as error:
        assert all(line.strip() and line.isprintable() for line in str(error).split("\n"))
    else:
        assert 0 < got.risk.max_gross_share <= 4


@effort(max_examples=100, deadline=None)
@example(("strategy", "sleeves"), "0\r0")
@example(("universe", "symbols"), "A\nB")
@example(("report", "title"), "A\x0cB")
@given(st.sampled_from([(s, k) for s, kind in SECTIONS.items() for k in kind.model_fields]), st.text(max_size=20))
def test_whatever_a_variable_holds_the_answer_is_settings_or_one_clear_error(key, raw):
    try:
        Settings.read(ROOT / "settings.ini", {"MLT_{}_{}".format(*key).upper(): raw})
    except SettingsError as error:
        assert len(str(error).splitlines()) == 1


def test_importing_settings_is_light():
    code = "import sys, mlt_lib.settings; print({'pandas', 'numpy', 'sqlalchemy'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "set()"
