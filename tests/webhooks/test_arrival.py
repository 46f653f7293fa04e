"""A body that is not whole, or not there in time, is none, however the application reads it."""

import io
import time

import pytest
from flask import Flask, request

from webhooks.arrival import Arrival, _plain


def answer(body, *, announced, how="data", within_s=5.0, **more):
    app = Flask("arrival", static_folder=None)

    @app.post("/")
    def view():
        if how == "pieces":
            return b"".join(iter(lambda: request.stream.read(3), b""))
        if how == "lines":
            return b"|".join(request.stream)
        return {"data": request.get_data, "json": lambda: request.get_json()["a"], "form": lambda: request.form["a"]}[how]()

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "SERVER_NAME": "h", "SERVER_PORT": "80", "REMOTE_ADDR": "192.0.2.1", "wsgi.url_scheme": "http",
               "wsgi.input": body, "wsgi.input_terminated": True, "CONTENT_TYPE": "application/json" if how == "json" else "application/x-www-form-urlencoded",
               **({"CONTENT_LENGTH": str(announced)} if announced is not None else {"HTTP_TRANSFER_ENCODING": "chunked"}), **more}
    found = []
    text = b"".join(Arrival(app.wsgi_app, within_s=within_s)(environ, lambda status, _headers, _exc=None: found.append(int(status[:3]))))
    return found[0], text


@pytest.mark.parametrize(("how", "body", "text"), [("data", b"a=hello", b"a=hello"), ("form", b"a=hello", b"hello"), ("json", b'{"a":"hello"}', b"hello"),
                                                   ("pieces", b"a=hello", b"a=hello"), ("lines", b"a\nb\n", b"a\n|b\n")])
def test_a_whole_body_is_read_and_one_that_broke_off_is_a_bad_request(how, body, text):
    assert answer(io.BytesIO(body), announced=len(body), how=how) == (200, text)
    assert answer(io.BytesIO(body), announced=len(body) + 1, how=how)[0] == 400


def test_chunks_have_no_length_to_be_measured_by():
    assert answer(io.BytesIO(b"a=hello"), announced=None) == (200, b"a=hello")


class Slow(io.BytesIO):
    def read(self, size=-1):
        time.sleep(0.1)
        return super().read(size)


def test_a_body_that_comes_late_is_refused_although_it_is_whole():
    assert answer(Slow(b"a=hello"), announced=7, within_s=0.05)[0] == 408


def test_a_sender_has_one_address_however_it_is_written():
    assert _plain("::ffff:192.0.2.1") == _plain("192.0.2.1")
    assert _plain("2001:DB8::0:1") == _plain("2001:db8::1")
    assert _plain("unix:") == "unix:"
