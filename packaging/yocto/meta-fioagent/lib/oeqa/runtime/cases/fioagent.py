"""fioagent in a booted image: TEST_SUITES = "ping ssh systemd fioagent"."""

from oeqa.core.decorator.depends import OETestDepends
from oeqa.runtime.case import OERuntimeTestCase
from oeqa.runtime.decorator.package import OEHasPackage

TROUBLE = ("FAIL:", "Traceback")


class FioagentTest(OERuntimeTestCase):
    def says(self, command, expected=0):
        status, output = self.target.run(command)
        self.assertEqual(status, expected, msg=f"{command}: {output}")
        return output

    @OEHasPackage(["fioagent"])
    @OETestDepends(["ssh.SSHTest.test_ssh"])
    def test_starts(self):
        """Nothing but the interpreter and what RDEPENDS names is needed for that."""
        self.says("fioagent version")
        self.says("fioagent settings")

    @OEHasPackage(["fioagent"])
    @OETestDepends(["fioagent.FioagentTest.test_starts"])
    def test_waits_for_registration(self):
        """Without sota.toml the path unit waits, and the service is no failed unit."""
        self.assertEqual(self.says("systemctl is-enabled fioagent.path").strip(), "enabled")
        self.assertEqual(self.says("systemctl is-active fioagent.path").strip(), "active")
        self.says("systemctl is-failed fioagent.service", expected=1)

    @OEHasPackage(["systemd-analyze"])
    @OETestDepends(["fioagent.FioagentTest.test_starts"])
    def test_sandbox(self):
        """The exposure that docs/service.md tells, by this image's systemd."""
        self.says("systemd-analyze security --threshold=25 fioagent.service")

    @OEHasPackage(["fioagent-ptest"])
    @OETestDepends(["fioagent.FioagentTest.test_starts"])
    def test_ptest(self):
        output = self.says("$(find /usr/lib* -path '*/fioagent/ptest/run-ptest')")
        self.assertIn("PASS: modules", output)
        self.assertFalse([line for line in output.splitlines() if line.startswith(TROUBLE)])

    @OEHasPackage(["fioagent-factory"])
    @OETestDepends(["fioagent.FioagentTest.test_starts"])
    def test_rotates(self):
        """A whole rotation on the device's own processor, against the lab factory on it."""
        self.says("fioagent-factory demo")
