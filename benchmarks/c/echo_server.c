/* The limit of the workloads tcp_echo, udp_echo and http: what the operating system asks of any server that uses epoll.
 *
 * One thread, one epoll, one buffer for all; a readable socket is read once and answered at once. Prints its port; at the end
 * prints "USER SYSTEM WALL", its CPU and wall seconds, and exits 0: for TCP between the last connection's opening and the first
 * one's end (the one that warms it not counted), for UDP between the first datagram, which warms it, and the last.
 *
 *   echo_server tcp CONNECTIONS CHUNK     echoes; ends when CONNECTIONS, after the warming one, have been closed
 *   echo_server udp DATAGRAMS             echoes; ends after that many
 *   echo_server http                      answers each request with one fixed response; ends when its standard input ends
 */
#include "common.h"

static const char RESPONSE[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\nserver: c\r\n\r\nHello, world!";

static char *buffer;
static size_t chunk;
static struct rusage began, ended;
static double began_at, ended_at;

static void start_clock(void) {
    getrusage(RUSAGE_SELF, &began);
    began_at = now();
}

static double seconds(struct timeval from, struct timeval to) {
    return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_usec - from.tv_usec) / 1e6;
}

static void stop_clock(void) {
    getrusage(RUSAGE_SELF, &ended);
    ended_at = now();
}

static void tell(void) {
    printf("%f %f %f\n", seconds(began.ru_utime, ended.ru_utime), seconds(began.ru_stime, ended.ru_stime),
           ended_at - began_at);
}

/* A bound socket whose port has been printed. */
static int bound(int type) {
    struct sockaddr_in address = loopback(0);
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (type == SOCK_STREAM && listen(fd, 4096) < 0) fail("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0) fail("getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
}

/* All that is to be sent; waits where the socket's buffer is full (a client reads what it asked for, so not for long). */
static void send_all(int fd, const char *data, size_t length) {
    while (length > 0) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT};
            poll(&writable, 1, -1);
            continue;
        }
        if (sent < 0) fail("send");
        data += sent;
        length -= (size_t)sent;
    }
}

/* As many responses as there are ends of a request in what came: a request is never split on the loopback at this size. */
static void answer_http(int fd, size_t got) {
    for (size_t at = 3; at < got; at++)
        if (memcmp(buffer + at - 3, "\r\n\r\n", 4) == 0) send_all(fd, RESPONSE, sizeof RESPONSE - 1);
}

static void serve_tcp(long connections, int http) {
    struct epoll_event events[256];
    int epoll = epoll_create1(0), listener = bound(SOCK_STREAM);
    long opened = 0, closed = 0;
    watch(epoll, listener);
    if (http) watch(epoll, 0);
    while (http || closed < connections + 1) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd, one = 1;
            if (http && fd == 0) {
                stop_clock();
                return;
            }
            if (fd == listener) {
                int accepted;
                while ((accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    watch(epoll, accepted);
                    if (++opened == connections + 1) start_clock();
                }
                continue;
            }
            ssize_t got = recv(fd, buffer, chunk, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) {
                close(fd);
                if (++closed == 2 && !http) stop_clock();
            } else if (http) {
                answer_http(fd, (size_t)got);
            } else {
                send_all(fd, buffer, (size_t)got);
            }
        }
    }
}

static void serve_udp(long datagrams) {
    struct epoll_event event;
    int epoll = epoll_create1(0), fd = bound(SOCK_DGRAM);
    watch(epoll, fd);
    for (long done = 0; done < datagrams + 1;) {
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        ssize_t got = recvfrom(fd, buffer, chunk, 0, (struct sockaddr *)&peer, &length);
        if (got < 0 && errno == EAGAIN) {
            epoll_wait(epoll, &event, 1, -1);
            continue;
        }
        if (got < 0) fail("recvfrom");
        if (sendto(fd, buffer, (size_t)got, 0, (struct sockaddr *)&peer, length) != got) fail("sendto");
        if (++done == 1) start_clock();
    }
    stop_clock();
}

int main(int argc, char **argv) {
    if (argc < 2) complain("usage: echo_server tcp CONNECTIONS CHUNK | udp DATAGRAMS | http");
    chunk = argc > 3 ? (size_t)number(argv[3], "CHUNK", 1) : 65536;
    if (!(buffer = malloc(chunk))) fail("malloc");
    if (strcmp(argv[1], "tcp") == 0 && argc == 4)
        serve_tcp(number(argv[2], "CONNECTIONS", 1), 0);
    else if (strcmp(argv[1], "udp") == 0 && argc == 3)
        serve_udp(number(argv[2], "DATAGRAMS", 1));
    else if (strcmp(argv[1], "http") == 0)
        serve_tcp(0, 1);
    else
        complain("usage: echo_server tcp CONNECTIONS CHUNK | udp DATAGRAMS | http");
    tell();
    return 0;
}
