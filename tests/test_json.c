/* Tests of core/base/json: what is written parses back, is escaped, and is shortest. */
#include "core/base/alloc.h"
#include "core/base/json.h"
#include "core/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cjson/cJSON.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void assert_finished(qe_json *json, const char *expected) {
  char *text;
  size_t length;
  assert_int_equal(qe_json_finish(json, &text, &length), QE_OK);
  assert_string_equal(text, expected);
  assert_int_equal(length, strlen(expected));
  qe_free(text);
}

static void write_example(qe_json *json) {
  qe_json_open_object(json, NULL);
  qe_json_text(json, "name", "resnet20");
  qe_json_open_array(json, "list");
  qe_json_int(json, NULL, 1);
  qe_json_open_object(json, NULL);
  qe_json_close(json);
  qe_json_open_array(json, NULL);
  qe_json_close(json);
  qe_json_text(json, NULL, "[");
  qe_json_null(json, NULL);
  qe_json_close(json);
  qe_json_bool(json, "yes", true);
  qe_json_real(json, "rate", 0.1);
  qe_json_float(json, "loss", 0.1f);
  qe_json_close(json);
}

static void test_structure(void **state) {
  (void)state;
  qe_json json = {0};
  write_example(&json);
  assert_finished(&json,
                  "{\"name\":\"resnet20\",\"list\":[1,{},[],\"[\",null],\"yes\":true,\"rate\":0.1,\"loss\":0.1}");
  qe_json_int(&json, NULL, INT64_MIN);
  assert_finished(&json, "-9223372036854775808");
}

static void test_misuse(void **state) {
  (void)state;
  char *text;
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  assert_int_equal(qe_json_finish(&json, &text, NULL), QE_USAGE); /* left open */
  assert_null(text);
  qe_json_open_object(&json, NULL);
  qe_json_int(&json, NULL, 1); /* no key */
  qe_json_close(&json);
  assert_int_equal(qe_json_finish(&json, &text, NULL), QE_USAGE);
  qe_json_open_array(&json, NULL);
  qe_json_int(&json, "key", 1); /* key in an array */
  assert_int_equal(qe_json_finish(&json, &text, NULL), QE_USAGE);
  qe_json_int(&json, NULL, 1);
  qe_json_int(&json, NULL, 2); /* two values at the top */
  assert_int_equal(qe_json_finish(&json, &text, NULL), QE_USAGE);
  qe_json_close(&json);
  assert_int_equal(qe_json_finish(&json, &text, NULL), QE_USAGE);
  assert_int_equal(qe_json_finish(&json, &text, NULL), QE_USAGE); /* nothing written */
  for (int i = 0; i <= QE_JSON_DEPTH; i++) qe_json_open_array(&json, NULL);
  assert_int_equal(qe_json_finish(&json, &text, NULL), QE_USAGE);
}

static void test_escapes(void **state) {
  (void)state;
  static const struct {
    const char *text, *expected;
  } cases[] = {
      {"a\"b\\c/", "\"a\\\"b\\\\c/\""},
      {"\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""},
      {"\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\""},
      {"gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80", "\"gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80\""},
      {"\xFF", "\"\xEF\xBF\xBD\""},                                 /* never in UTF-8 */
      {"\x80z", "\"\xEF\xBF\xBDz\""},                               /* continuation alone */
      {"\xC3", "\"\xEF\xBF\xBD\""},                                 /* cut short by the end */
      {"\xE2\x82", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},                 /* the same */
      {"\xC0\xAF", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},                 /* overlong */
      {"\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""}, /* surrogate */
      {NULL, "null"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    qe_json json = {0};
    qe_json_text(&json, NULL, cases[i].text);
    assert_finished(&json, cases[i].expected);
  }
}

static void test_every_byte_parses_back(void **state) {
  (void)state;
  for (int byte = 1; byte < 256; byte++) {
    char source[3] = {(char)byte, 'x', 0}, *text;
    qe_json json = {0};
    qe_json_open_object(&json, NULL);
    qe_json_text(&json, source, source);
    qe_json_close(&json);
    assert_int_equal(qe_json_finish(&json, &text, NULL), QE_OK);
    cJSON *root = cJSON_ParseWithOpts(text, NULL, 1);
    assert_non_null(root);
    assert_string_equal(root->child->string, byte < 0x80 ? source : "\xEF\xBF\xBDx");
    assert_string_equal(root->child->valuestring, byte < 0x80 ? source : "\xEF\xBF\xBDx");
    cJSON_Delete(root);
    qe_free(text);
  }
}

static void test_numbers(void **state) {
  (void)state;
  static const struct {
    double value;
    const char *expected;
  } cases[] = {{0, "0"},
               {-0.0, "-0"},
               {1e300, "1e+300"},
               {0.1 + 0.2, "0.30000000000000004"},
               {__builtin_nan(""), "null"},
               {HUGE_VAL, "null"},
               {-HUGE_VAL, "null"},
               {91.25, "91.25"},
               {1234567, "1234567"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    qe_json json = {0};
    qe_json_real(&json, NULL, cases[i].value);
    assert_finished(&json, cases[i].expected);
  }
  char text[QE_REAL_TEXT];
  assert_string_equal(qe_float_text(0.3f, text), "0.3");
  assert_string_equal(qe_real_text((double)0.3f, text), "0.30000001192092896");
  assert_string_equal(qe_real_text(-HUGE_VAL, text), "-inf");
}

/* Random bit patterns: every number reads back as itself. */
static void test_numbers_round_trip(void **state) {
  (void)state;
  for (uint64_t i = 0; i < 20000; i++) {
    qe_philox draw = qe_philox_draw(1, QE_STREAM_TEST, i);
    double real;
    float single;
    char text[QE_REAL_TEXT];
    memcpy(&real, draw.word, sizeof real);
    memcpy(&single, draw.word + 2, sizeof single);
    if (isfinite(real)) assert_true(strtod(qe_real_text(real, text), NULL) == real);
    if (isfinite(single)) assert_true(strtof(qe_float_text(single, text), NULL) == single);
  }
  char text[QE_REAL_TEXT];
  assert_true(strtod(qe_real_text(-DBL_MAX, text), NULL) == -DBL_MAX);
  assert_true(strtod(qe_real_text(DBL_TRUE_MIN, text), NULL) == DBL_TRUE_MIN);
}

static void test_survives_failed_allocations(void **state) {
  (void)state;
  char *text = NULL;
  int failures = 0;
  for (int64_t nth = 1; !text; nth++) {
    qe_json json = {0};
    qe_alloc_fail_nth(nth);
    write_example(&json);
    qe_status status = qe_json_finish(&json, &text, NULL);
    qe_alloc_fail_nth(0);
    assert_int_equal(status, text ? QE_OK : QE_NO_MEMORY);
    failures += !text;
  }
  assert_true(failures > 2);
  qe_free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_structure),
      cmocka_unit_test(test_misuse),
      cmocka_unit_test(test_escapes),
      cmocka_unit_test(test_every_byte_parses_back),
      cmocka_unit_test(test_numbers),
      cmocka_unit_test(test_numbers_round_trip),
      cmocka_unit_test(test_survives_failed_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
