// Measures libsodium for the comparison in ../main.go. Reads lines "seal SIZE" and "open SIZE", and answers each with the
// nanoseconds that one message of that size takes.
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { max_size = 1 << 20 };

// As in ../main.go.
#define SLICES 10
#define SLICE_NS 2e5

static unsigned char text[max_size], sealed[max_size + crypto_box_MACBYTES];
static unsigned char nonce[crypto_box_NONCEBYTES], key[crypto_box_BEFORENMBYTES];

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

// run does n messages with the nonces that CURVE uses: 16 bytes that stay and a big-endian counter.
static int run(int seal, size_t size, long n) {
	unsigned long long counter = 1;
	if (!seal) crypto_box_easy_afternm(sealed, text, size, nonce, key);
	for (long i = 0; i < n; i++) {
		if (seal) {
			counter++;
			for (int j = 0; j < 8; j++) nonce[16 + j] = counter >> (56 - 8 * j);
			crypto_box_easy_afternm(sealed, text, size, nonce, key);
		} else if (crypto_box_open_easy_afternm(text, sealed, size + crypto_box_MACBYTES, nonce, key) != 0) {
			return -1;
		}
	}
	return 0;
}

int main(void) {
	char op[8];
	size_t size;
	if (sodium_init() < 0) return 1;
	randombytes_buf(key, sizeof key);
	while (scanf("%7s %zu", op, &size) == 2) {
		if (size > max_size) return 1;
		int seal = strcmp(op, "seal") == 0;
		long n = 1;
		double best = 0;
		for (int slice = 0; slice < SLICES;) {
			double start = now();
			if (run(seal, size, n) != 0) return 1;
			double took = now() - start;
			if (took < SLICE_NS) {
				n *= 2;
				continue;
			}
			if (slice++ == 0 || took / n < best) best = took / n;
		}
		printf("%f\n", best);
		fflush(stdout);
	}
	return 0;
}
