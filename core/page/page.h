/* A page of text that grows: HTML that loads nothing from elsewhere, readable on light and dark and on a phone. Style
 * and script are page.css and page.js. What a page is made of: words here, charts in plot.h, pictures in picture.h. */
#ifndef QE_PAGE_PAGE_H
#define QE_PAGE_PAGE_H

#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Starts as {0}. The first failure sticks and shows when the page is written. */
typedef struct qe_page {
  char *text;
  size_t length, capacity;
  qe_status status;
} qe_page;

/* Markup as it stands; and text, with what HTML reserves escaped and bytes that are no UTF-8 replaced. */
void qe_page_add(qe_page *page, const char *format, ...) QE_PRINTF(2, 3);
void qe_page_text(qe_page *page, const char *text);
/* Text inside markup: `before` and `after` as they stand. */
void qe_page_words(qe_page *page, const char *before, const char *text, const char *after);

/* Head and style. `reload`: seconds after which a browser loads the page again; 0: never. */
void qe_page_open(qe_page *page, const char *title, int reload);
/* The end, and the whole written to `path` atomically; the page is {0} afterwards, as after qe_page_drop. */
QE_CHECKED qe_status qe_page_write(qe_page *page, const char *path);
void qe_page_drop(qe_page *page);

/* A heading that stays only when something follows it: give `qe_page_end_section` what this returned. */
typedef struct qe_page_mark {
  size_t start, body;
} qe_page_mark;
qe_page_mark qe_page_begin_section(qe_page *page, int level, const char *id, const char *title);
/* Whether the section had anything in it. */
int qe_page_end_section(qe_page *page, qe_page_mark mark);

/* A bar of `share` (0 to 1) of its cell; `kind`: classes such as "b1". */
void qe_page_bar(qe_page *page, double share, const char *kind);

/* ---- numbers for people ---- */

enum { QE_NUMBER_TEXT = 48 };
/* Up to four digits, all before the point, groups of three with thin spaces: 0.1234, 12.34, 123 457; "not finite". */
const char *qe_number_text(double value, char text[QE_NUMBER_TEXT]);
/* Whole, in groups of three. */
const char *qe_whole_text(int64_t value, char text[QE_NUMBER_TEXT]);
/* With k, M, G, T: 269.7 k; as bytes with KiB, MiB; as 1 h 23 min, 45 s. */
const char *qe_count_text(double value, char text[QE_NUMBER_TEXT]);
const char *qe_bytes_text(double value, char text[QE_NUMBER_TEXT]);
const char *qe_seconds_text(double value, char text[QE_NUMBER_TEXT]);

#ifdef __cplusplus
}
#endif
#endif
