/* SHA-256 by libcrypto's EVP interface. */
#include "tools/fetch/digest.h"

#include "core/base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 1 << 18 };

struct qe_digest {
  EVP_MD_CTX *context;
};

static qe_status fail_library(void) {
  return qe_fail(QE_IO, "libcrypto cannot compute SHA-256 here; does its configuration (openssl.cnf) exclude it?");
}

qe_status qe_digest_new(qe_digest **out) {
  *out = NULL;
  qe_digest *digest = QE_NEW(qe_digest);
  if (!digest) return QE_NO_MEMORY;
  digest->context = EVP_MD_CTX_new();
  if (!digest->context || EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) {
    qe_digest_free(digest);
    return fail_library();
  }
  *out = digest;
  return QE_OK;
}

qe_status qe_digest_add(qe_digest *digest, const void *data, size_t bytes) {
  return EVP_DigestUpdate(digest->context, data, bytes) == 1 ? QE_OK : fail_library();
}

qe_status qe_digest_text(qe_digest *digest, char text[QE_DIGEST_TEXT]) {
  unsigned char value[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  if (EVP_DigestFinal_ex(digest->context, value, &length) != 1 || 2 * length + 1 != QE_DIGEST_TEXT)
    return fail_library();
  for (unsigned at = 0; at < length; at++) snprintf(text + 2 * (size_t)at, 3, "%02x", value[at]);
  return QE_OK;
}

void qe_digest_free(qe_digest *digest) {
  if (!digest) return;
  EVP_MD_CTX_free(digest->context);
  qe_free(digest);
}

/* Add all of `fd` by way of buffer [PIECE]. */
static qe_status add_file(qe_digest *digest, int fd, const char *path, void *buffer, bool (*stop)(void)) {
  for (;;) {
    if (stop && stop()) return qe_fail(QE_INTERRUPTED, "interrupted");
    ssize_t got = read(fd, buffer, PIECE);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return qe_fail(QE_IO, "%s: cannot read: %s", path, strerror(errno));
    if (got == 0) return QE_OK;
    QE_TRY(qe_digest_add(digest, buffer, (size_t)got));
  }
}

qe_status qe_digest_file(const char *path, bool (*stop)(void), char text[QE_DIGEST_TEXT]) {
  qe_status status = QE_NO_MEMORY;
  qe_digest *digest = NULL;
  void *buffer = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return qe_fail(QE_IO, "%s: cannot open: %s", path, strerror(errno));
  buffer = qe_alloc(PIECE);
  if (!buffer) goto done;
  QE_TRY_DONE(qe_digest_new(&digest));
  QE_TRY_DONE(add_file(digest, fd, path, buffer, stop));
  status = qe_digest_text(digest, text);
done:
  qe_digest_free(digest);
  qe_free(buffer);
  close(fd);
  return status;
}
