"""Calls that hold the loop: by themselves, by a method of a known type, or in a function that is called."""

import asyncio
import concurrent.futures
import os
import queue
import select
import shutil
import socket
import subprocess
import threading
import time
import time as clock
import urllib.request
from time import sleep

import httpx
import requests

import bateau


async def plain():
    time.sleep(1)  # error: scheduling_delay
    clock.sleep(0.1)  # error: scheduling_delay
    sleep(1)  # error: scheduling_delay
    requests.get("http://example.org")  # error: scheduling_delay
    httpx.post("http://example.org")  # error: scheduling_delay
    urllib.request.urlopen("http://example.org")  # error: scheduling_delay
    subprocess.run(["true"])  # error: scheduling_delay
    os.system("true")  # error: scheduling_delay
    input("? ")  # error: scheduling_delay
    socket.create_connection(("localhost", 80))  # error: scheduling_delay
    socket.getaddrinfo("example.org", 80)  # error: scheduling_delay
    select.select([], [], [])  # error: scheduling_delay
    shutil.rmtree("folder")  # error: scheduling_delay
    os.waitpid(1, 0)  # error: scheduling_delay


async def by_type(q: queue.Queue, pool: concurrent.futures.ThreadPoolExecutor, event: threading.Event):
    q.get()  # error: scheduling_delay
    event.wait()  # error: scheduling_delay
    pool.submit(print).result()  # error: scheduling_delay
    thread = threading.Thread(target=print)
    thread.join()  # error: scheduling_delay
    child = subprocess.Popen(["true"])
    child.wait()  # error: scheduling_delay
    with requests.Session() as session:
        session.get("http://example.org")  # error: scheduling_delay


def fetch(url):
    return requests.get(url, timeout=3)


def through(url):
    page = fetch(url)
    return page.text


class Store:
    def load(self):
        with open("file"):
            time.sleep(1)

    async def get(self):
        return self.load()  # error: scheduling_delay


async def followed():
    through("http://example.org")  # error: scheduling_delay
    [through(url) for url in ("a", "b")]  # error: scheduling_delay
    Store().load()  # error: scheduling_delay


def sometimes(slow):
    if slow:
        time.sleep(1)


def not_again(cache):
    if cache:
        return cache
    return requests.get("http://example.org")


async def quick(q: queue.Queue, other, done: "concurrent.futures.Future"):
    time.sleep(0)
    q.get(block=False)
    q.get(False)
    q.put(1)
    other.get()
    other.sleep(1)
    os.waitpid(1, os.WNOHANG)
    select.select([], [], [], 0)
    socket.getaddrinfo("127.0.0.1", 80)
    socket.getaddrinfo("example.org", 80, flags=socket.AI_NUMERICHOST)
    sometimes(False)
    not_again(None)
    print("quick")
    open("file")
    os.path.exists("file")
    await asyncio.wrap_future(done)
    done.result()


async def elsewhere():
    await asyncio.to_thread(lambda: input("? "))
    await bateau.thread.run(time.sleep, 1)
    await asyncio.get_running_loop().run_in_executor(None, through, "http://example.org")

    def in_a_thread():
        time.sleep(1)

    await bateau.thread.run(in_a_thread)


async def shadowed(input, requests):
    input("? ")
    requests.get("http://example.org")
    time = bateau.time
    await time.sleep(1)


async def joined_after_it_ended():
    thread = threading.Thread(target=print)
    await bateau.thread.run(thread.start)
    thread.join()


def sync():
    time.sleep(1)
