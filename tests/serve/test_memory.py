"""What clients that have left had used is freed."""

import gc

import numpy as np
from servers import eventually, running
from websockets.sync.client import connect

from speechgru.serve.memory import free_memory
from speechgru.serve.socket_session import SocketSession
from speechgru.serve.stream import Stream


def alive():
    return sum(issubclass(type(found), SocketSession | Stream) for found in gc.get_objects())


def test_nothing_of_a_client_that_has_left_remains():
    with running() as server:
        free_memory()
        before = alive()
        for _ in range(3):
            with connect(server.socket) as client:
                client.send(np.zeros(3_200, np.int16).tobytes())
                client.recv(timeout=60)
        assert eventually(lambda: not server.service.sessions)

        def is_freed():
            free_memory()
            return alive() <= before

        assert eventually(is_freed)
