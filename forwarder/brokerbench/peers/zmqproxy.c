/* libzmq's proxy with the options that Zeek gives it: zmqproxy. Prints the ports of XSUB and XPUB. With a key in CURVE_SECRETKEY
   it encrypts; without a ZAP handler every client may come in. */
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

static int port(void *socket)
{
	char endpoint[256];
	size_t size = sizeof endpoint;
	int p = 0;
	if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &size) == 0)
		sscanf(endpoint, "tcp://127.0.0.1:%d", &p);
	return p;
}

static int encrypt(void *socket)
{
	const char *secret = getenv("CURVE_SECRETKEY");
	int one = 1;
	return secret && (zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &one, sizeof one) ||
			  zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, secret, 41));
}

int main(void)
{
	void *ctx = zmq_ctx_new();
	zmq_ctx_set(ctx, ZMQ_IO_THREADS, 2);
	void *xsub = zmq_socket(ctx, ZMQ_XSUB), *xpub = zmq_socket(ctx, ZMQ_XPUB);
	int one = 1;
	if (encrypt(xsub) || encrypt(xpub) || zmq_setsockopt(xpub, ZMQ_XPUB_VERBOSER, &one, sizeof one) ||
	    zmq_setsockopt(xpub, ZMQ_XPUB_NODROP, &one, sizeof one) ||
	    zmq_bind(xsub, "tcp://127.0.0.1:*") || zmq_bind(xpub, "tcp://127.0.0.1:*")) {
		perror("zmqproxy");
		return 1;
	}
	printf("%d %d\n", port(xsub), port(xpub));
	fflush(stdout);
	return zmq_proxy(xsub, xpub, NULL);
}
