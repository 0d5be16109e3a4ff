/* Stands in for getting data sets where libcurl, libarchive or libcrypto were not there when this was built. */
#include "tools/fetch/digest.h"
#include "tools/fetch/get.h"

bool qe_get_available(void) {
  return false;
}

static qe_status refuse(const qe_remote *set) {
  return qe_fail(
      QE_REFUSED,
      "this qevo-gpu was built without libcurl, libarchive or libcrypto and cannot get data: build it again "
      "with them (Debian: libcurl4-openssl-dev libarchive-dev libssl-dev), or unpack %s%s into the folder %s "
      "of --data-dir by hand",
      set->addresses[0], set->archives[0].name, set->folder);
}

qe_status qe_digest_file(const char *path, bool (*stop)(void), char text[QE_DIGEST_TEXT]) {
  (void)stop;
  text[0] = 0;
  return qe_fail(QE_REFUSED, "%s: this qevo-gpu was built without libcrypto and cannot compute its SHA-256", path);
}

qe_status qe_get(const qe_remote *set, const qe_get_request *request, char **folder) {
  (void)request;
  *folder = NULL;
  return refuse(set);
}
