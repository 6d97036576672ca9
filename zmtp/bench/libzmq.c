// The loops of the measurements on libzmq's C API: a thread for each end.

#include "libzmq.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

_Atomic long long received;

static void *context;

static void check(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "libzmq: %s: %s\n", what, zmq_strerror(zmq_errno()));
		exit(1);
	}
}

void *open_socket(int type, int hwm)
{
	if (context == NULL) {
		context = zmq_ctx_new();
		zmq_ctx_set(context, ZMQ_MAX_SOCKETS, 20000);
	}
	void *s = zmq_socket(context, type);
	check(s != NULL, "zmq_socket");
	check(zmq_setsockopt(s, ZMQ_SNDHWM, &hwm, sizeof hwm) == 0, "ZMQ_SNDHWM");
	check(zmq_setsockopt(s, ZMQ_RCVHWM, &hwm, sizeof hwm) == 0, "ZMQ_RCVHWM");
	return s;
}

void listen_at(void *s, const char *endpoint, char *bound, size_t size)
{
	check(zmq_bind(s, endpoint) == 0, endpoint);
	check(zmq_getsockopt(s, ZMQ_LAST_ENDPOINT, bound, &size) == 0, "ZMQ_LAST_ENDPOINT");
}

void connect_to(void *s, const char *endpoint)
{
	check(zmq_connect(s, endpoint) == 0, endpoint);
}

void subscribe_all(void *s)
{
	check(zmq_setsockopt(s, ZMQ_SUBSCRIBE, "", 0) == 0, "ZMQ_SUBSCRIBE");
}

struct job {
	void **sockets;
	int n;
	size_t size;
};

static void *send_loop(void *arg)
{
	struct job *j = arg;
	char *body = calloc(1, j->size);
	for (int i = 0;; i = (i + 1) % j->n)
		check(zmq_send(j->sockets[i], body, j->size, 0) >= 0, "zmq_send");
}

static void *receive_loop(void *arg)
{
	struct job *j = arg;
	zmq_msg_t m;
	zmq_msg_init(&m);
	for (;;) {
		int more;
		do {
			check(zmq_msg_recv(&m, j->sockets[0], 0) >= 0, "zmq_msg_recv");
			more = zmq_msg_more(&m);
		} while (more);
		received++;
	}
}

static void *echo_loop(void *arg)
{
	struct job *j = arg;
	zmq_msg_t m;
	zmq_msg_init(&m);
	for (;;) {
		check(zmq_msg_recv(&m, j->sockets[0], 0) >= 0, "zmq_msg_recv");
		check(zmq_msg_send(&m, j->sockets[0], 0) >= 0, "zmq_msg_send");
	}
}

static void start(void *(*loop)(void *), void **sockets, int n, size_t size)
{
	struct job *j = malloc(sizeof *j);
	j->sockets = malloc(n * sizeof *sockets);
	memcpy(j->sockets, sockets, n * sizeof *sockets);
	j->n = n;
	j->size = size;
	pthread_t t;
	check(pthread_create(&t, NULL, loop, j) == 0, "pthread_create");
	pthread_detach(t);
}

void start_sending(void **sockets, int n, size_t size) { start(send_loop, sockets, n, size); }
void start_receiving(void *s) { start(receive_loop, &s, 1, 0); }
void start_echoing(void *s) { start(echo_loop, &s, 1, 0); }

void round_trips(void *s, size_t size, long long *ns, int n)
{
	char *body = calloc(1, size);
	zmq_msg_t m;
	zmq_msg_init(&m);
	for (int i = 0; i < n; i++) {
		struct timespec a, b;
		clock_gettime(CLOCK_MONOTONIC, &a);
		check(zmq_send(s, body, size, 0) >= 0, "zmq_send");
		check(zmq_msg_recv(&m, s, 0) >= 0, "zmq_msg_recv");
		clock_gettime(CLOCK_MONOTONIC, &b);
		ns[i] = (b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec;
	}
	free(body);
}
