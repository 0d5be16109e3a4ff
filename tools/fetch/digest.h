/* SHA-256 of data that comes in pieces, and of files.
 * By libcrypto (OpenSSL): libcurl has it loaded for TLS already, and it takes the processor's SHA instructions. */
#ifndef QE_FETCH_DIGEST_H
#define QE_FETCH_DIGEST_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QE_DIGEST_TEXT = 65 }; /* 64 hexadecimal digits in lower case and a 0 */

typedef struct qe_digest qe_digest;

QE_CHECKED qe_status qe_digest_new(qe_digest **digest);
QE_CHECKED qe_status qe_digest_add(qe_digest *digest, const void *data, size_t bytes);
/* The digest of all that was added; nothing can be added afterwards. */
QE_CHECKED qe_status qe_digest_text(qe_digest *digest, char text[QE_DIGEST_TEXT]);
void qe_digest_free(qe_digest *digest);

/* Of a whole file. `stop` may be NULL; when it says true the status is QE_INTERRUPTED. */
QE_CHECKED qe_status qe_digest_file(const char *path, bool (*stop)(void), char text[QE_DIGEST_TEXT]);

#endif
