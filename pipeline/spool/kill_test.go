package spool

import "os"

const killDirEnv = "SPOOL_TEST_KILL_DIR"

func killChild(string) { os.Exit(1) }
