import threading, time
from tests.flows import workflows
from django_durable import durable
from tests.integration.client.test_signals import *
import logging
def test_probe(worker, caplog):
    caplog.set_level(logging.DEBUG, "django_durable")
    from django_durable.worker import engine as e
    from django_durable.worker.engine import Engine
    from collections import Counter
    c = Counter()
    for name in ("_redo","_busy","_written","cycle"):
        orig = getattr(Engine,name)
        def w(self,*a,orig=orig,name=name):
            c[name]+=1
            return orig(self,*a)
        setattr(Engine,name,w)
    e._VERDICTS.update({k: getattr(Engine, v.__name__) for k,v in e._VERDICTS.items()})
    handles = [durable.start_workflow(workflows.until_told) for _ in range(4)]
    acc=Counter(); stop=threading.Event()
    def send(h):
        while not stop.is_set():
            try:
                h.signal(workflows.approved("x"))
            except WorkflowClosed:
                return
            acc[h.workflow_id[-4:]]+=1
    ts=[in_thread(lambda h=h: send(h)) for h in handles for _ in range(3)]
    time.sleep(1)
    for h in handles: h.signal(workflows.approved("stop"))
    for i in range(10):
        time.sleep(1)
        print(i, dict(c), dict(acc), [(h.status().status, Dispatch.objects.filter(pk=h.run_id).values_list("closing",flat=True).first(), InboxMessage.objects.filter(chain_id=h.run_id).count()) for h in handles])
    stop.set()
    for t in ts: t.join()
